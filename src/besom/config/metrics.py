"""Which metrics a task logs. Nothing here imports torch: the parent process checks objectives with it."""

from __future__ import annotations

from collections.abc import Mapping

from besom.errors import ConfigError

_NAMES: Mapping[str, tuple[str, ...]] = {
    "regression": ("loss", "mae", "r2"),
    "binary": ("loss", "acc", "auroc"),
    "multiclass": ("loss", "acc", "f1"),
}


def metric_names(task: str) -> tuple[str, ...]:
    """Return the metrics that a model of this task logs for each part, without `train/`, `val/` or `test/`.

    `task` is the value of a `besom.data.Task`: regression, binary or multiclass. r2 and auroc are not
    logged for a part on which they are not defined (see `besom.models.scoring.scores`).

    Raises ConfigError for any other task.
    """
    if task not in _NAMES:
        raise ConfigError(f"task: '{task}' is unknown; use {', '.join(_NAMES)}")
    return _NAMES[task]
