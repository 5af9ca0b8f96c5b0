"""The metrics that each task logs, and the objectives of a study: a metric and its direction, or several.

Nothing here imports torch: the parent process checks objectives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from besom.errors import ConfigError

_DIRECTIONS = ("minimize", "maximize")

_METRICS: Mapping[str, tuple[str, ...]] = {
    "regression": ("loss", "mae", "r2"),
    "binary": ("loss", "acc", "auroc"),
    "multiclass": ("loss", "acc", "f1"),
}

BEST = "best/"
"""The prefix of the metric that has a trial's value of an objective."""

COSTS: Mapping[str, str] = {
    "cost/params": "the model's trainable parameters",
    "cost/seconds": "what training took",
}
"""The costs of a trial: measured once, and objectives like any metric."""

COUNTS = ("cost/params",)
"""The metrics that are whole numbers."""


def metric_names(task: str) -> tuple[str, ...]:
    """Return the metrics that a model of this task logs for each part, without `train/`, `val/` or `test/`.

    `task` is the value of a `besom.data.Task`: regression, binary or multiclass. r2 and auroc are not logged for a part
    on which they are undefined (see `besom.models.scoring.scores`). Raises ConfigError for any other task.
    """
    if task not in _METRICS:
        raise ConfigError(f"task: '{task}' is unknown; use {', '.join(_METRICS)}")
    return _METRICS[task]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A metric and its direction, `maximize` or `minimize`."""

    name: str
    direction: str

    @property
    def is_cost(self) -> bool:
        """Return whether the metric is a cost, which is measured once per trial and not by epoch."""
        return self.name in COSTS

    @property
    def best_metric(self) -> str:
        """The metric that has a trial's value: best/val/acc for val/acc."""
        return f"{BEST}{self.name}"

    @property
    def test_metric(self) -> str:
        """The metric on the test data: test/acc for val/acc, test_acc for val_acc."""
        if self.name.startswith("val_"):
            return f"test_{self.name.removeprefix('val_')}"
        return f"test/{self.name.rpartition('/')[2]}"

    def better(self, value: float, other: float) -> bool:
        """Return whether a value is better than another."""
        return value > other if self.direction == "maximize" else value < other

    def __str__(self) -> str:
        return f"{self.direction} {self.name}"


def read_objectives(config: Mapping[str, Any]) -> tuple[Objective, ...]:
    """Read `objective` and `direction`: a name and a direction, or a list of each.

    One direction for several objectives applies to the metrics; costs are minimized. Raises ConfigError if they do not
    match.
    """
    names, directions = _listed(config, "objective"), _listed(config, "direction")
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"objective: {config['objective']} must name one metric, or several different ones")
    if len(directions) == 1 < len(names):
        directions = ["minimize" if name in COSTS else directions[0] for name in names]
    if len(directions) != len(names):
        raise ConfigError(
            f"direction: {len(directions)} directions for {len(names)} objectives; name one for each of {names}"
        )
    for direction in directions:
        if direction not in _DIRECTIONS:
            raise ConfigError(f"direction: '{direction}' is unknown; use {' or '.join(_DIRECTIONS)}")
    return tuple(Objective(name=name, direction=direction) for name, direction in zip(names, directions, strict=True))


def leading(objectives: Sequence[Objective]) -> Objective:
    """Return the objective that compares epochs: the first that has a value in every epoch.

    Raises ConfigError when all of them are costs.
    """
    for objective in objectives:
        if not objective.is_cost:
            return objective
    raise ConfigError(f"objective: {objectives[0].name} is a cost; name a metric such as val/loss before it")


def _listed(config: Mapping[str, Any], key: str) -> list[str]:
    value = config[key]
    values = [value] if isinstance(value, str) else [] if value is None else value
    # Any iterable is a list, or OmegaConf's ListConfig, which is not imported here.
    if (
        not isinstance(values, Iterable)
        or isinstance(values, Mapping)
        or not all(isinstance(one, str) for one in values)
    ):
        example = "val/acc" if key == "objective" else _DIRECTIONS[1]
        raise ConfigError(f"{key}: {value} is no name; write such as {key}: {example}, or a list of names")
    return list(values)
