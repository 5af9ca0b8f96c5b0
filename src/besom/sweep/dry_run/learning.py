"""The number of trials that the sampler's model chooses; the others are random, for the model to learn from."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.pruners import HyperbandPruner

from besom.sweep.spec import SweepSpec
from besom.sweep.study.samplers import with_target

# The keys with the number of random trials that a sampler draws before it has a model.
_STARTUP: Mapping[str, str] = {
    "TPESampler": "n_startup_trials",
    "GPSampler": "n_startup_trials",
    "NSGAIISampler": "population_size",
    "NSGAIIISampler": "population_size",
}


@dataclass(frozen=True, kw_only=True)
class Learning:
    """A sampler's share of a sweep: of `trials`, its model chooses `chosen`, after `startup` random ones.

    With Hyperband, the sampler learns from each bracket separately; `brackets` is their number.
    """

    sampler: str
    key: str
    trials: int
    chosen: int
    startup: int
    brackets: int = 1

    @classmethod
    def of(cls, spec: SweepSpec, limit: int | None) -> Learning | None:
        """Compute it for a sweep; `limit` is the last number that a pruner sees of a trial, None if unknown.

        Return None for a sampler without a model, or from another package, and for a sweep without `n_trials`.
        """
        trials = spec.budget.n_trials
        sampler = with_target(spec.search.sampler)
        if str(sampler["_target_"]).endswith(".PartialFixedSampler") and isinstance(
            sampler.get("base_sampler"), Mapping
        ):
            sampler = with_target(sampler["base_sampler"])
        package, _, name = str(sampler["_target_"]).rpartition(".")
        if package != "optuna.samplers" or name not in _STARTUP or trials is None:
            return None
        key = _STARTUP[name]
        usual = inspect.signature(getattr(optuna.samplers, name)).parameters[key].default
        startup = value if isinstance(value := sampler.get(key), int) else int(usual)
        bracket = _brackets(spec.study_name, spec.search.pruner, limit)
        seen = Counter[int]()
        chosen = 0
        for number in range(trials):
            # The model does not choose enqueued trials, but learns from them.
            chosen += number >= len(spec.search.enqueue) and seen[bracket(number)] >= startup
            seen[bracket(number)] += 1
        return cls(
            sampler=name, key=key, trials=trials, chosen=chosen, startup=startup, brackets=max(1, len(seen))
        )  # fmt: skip

    @property
    def warning(self) -> str | None:
        """The warning that the model chooses fewer than half of the trials, None if it chooses more."""
        if 2 * self.chosen >= self.trials:
            return None
        few = str(self.chosen) if self.chosen else "none"
        where = f" in each of Hyperband's {self.brackets} brackets, which learn apart" if self.brackets > 1 else ""
        without = ", or take another pruner" if self.brackets > 1 else ""
        return (
            f"hydra.sweeper.n_trials: {self.sampler} chooses {few} of the {self.trials} trials: it draws the first "
            f"{self.startup}{where}, at random; raise n_trials, lower hydra.sweeper.sampler.{self.key}{without}"
        )


def _brackets(study_name: str, pruner: Mapping[str, Any], limit: int | None) -> Callable[[int], int]:
    """Return a function from a trial's number to its bracket; always 0 without Hyperband, or if unknown."""
    most = pruner.get("max_resource", "auto")
    if most == "auto" and limit is not None:
        most = limit + 1  # as Optuna computes it from the last report of the first complete trial
    if not str(pruner.get("_target_")).endswith(".HyperbandPruner") or not isinstance(most, int):
        return lambda number: 0
    keys = {key: value for key, value in pruner.items() if not key.startswith("_")}
    try:
        hyperband = HyperbandPruner(**{**keys, "max_resource": most})
        study = optuna.create_study(study_name=study_name, pruner=hyperband)
        # Optuna derives the bracket from a hash of the study's name and the trial's number.
        hyperband._try_initialization(study)
        return lambda number: hyperband._get_bracket_id(study, SimpleNamespace(number=number))  # type: ignore[arg-type]
    except (TypeError, ValueError, AttributeError):  # `lint` reports arguments that it does not accept
        return lambda number: 0
