"""How many of a sweep's trials the sampler's model chooses; the others are drawn at random, for it to learn from."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import optuna
from optuna.pruners import HyperbandPruner

from besom.sweep.spec import SweepSpec
from besom.sweep.study.samplers import with_target

# The key that says how many trials a sampler draws at random before it has a model.
_STARTUP: Mapping[str, str] = {
    "TPESampler": "n_startup_trials",
    "GPSampler": "n_startup_trials",
    "NSGAIISampler": "population_size",
    "NSGAIIISampler": "population_size",
}


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What a sampler can learn: of `trials`, its model chooses `chosen`, after `startup` random ones.

    With Hyperband it learns from the trials of one bracket alone; `brackets` says of how many.
    """

    sampler: str
    key: str
    trials: int
    chosen: int
    startup: int
    brackets: int = 1

    @classmethod
    def of(cls, spec: SweepSpec, epochs: int | None) -> Learning | None:
        """Return it for a sweep whose trials have so many epochs, where that is known.

        None for a sampler that has no model, or is not Optuna's, and for a sweep without a number of trials.
        """
        sampler = with_target(spec.sampler)
        if str(sampler["_target_"]).endswith(".PartialFixedSampler") and isinstance(
            sampler.get("base_sampler"), Mapping
        ):
            sampler = with_target(sampler["base_sampler"])
        package, _, name = str(sampler["_target_"]).rpartition(".")
        if package != "optuna.samplers" or name not in _STARTUP or spec.n_trials is None:
            return None
        key = _STARTUP[name]
        usual = inspect.signature(getattr(optuna.samplers, name)).parameters[key].default
        startup = value if isinstance(value := sampler.get(key), int) else int(usual)
        bracket = _brackets(spec, epochs)
        seen = Counter[int]()
        chosen = 0
        for number in range(spec.n_trials):
            # What is enqueued is not the model's choice, and something to learn from.
            chosen += number >= len(spec.enqueue) and seen[bracket(number)] >= startup
            seen[bracket(number)] += 1
        return cls(
            sampler=name, key=key, trials=spec.n_trials, chosen=chosen, startup=startup, brackets=max(1, len(seen))
        )  # fmt: skip

    @property
    def warning(self) -> str | None:
        """What to say, with the numbers, where the model chooses fewer than half of the trials."""
        if 2 * self.chosen >= self.trials:
            return None
        few = str(self.chosen) if self.chosen else "none"
        where = f" in each of Hyperband's {self.brackets} brackets, which learn apart" if self.brackets > 1 else ""
        without = ", or take another pruner" if self.brackets > 1 else ""
        return (
            f"hydra.sweeper.n_trials: {self.sampler} chooses {few} of the {self.trials} trials: it draws the first "
            f"{self.startup}{where}, at random; raise n_trials, lower hydra.sweeper.sampler.{self.key}{without}"
        )


def _brackets(spec: SweepSpec, epochs: int | None) -> Callable[[int], int]:
    """Return what gives a trial's bracket by its number: 0 for all of them where there is one, or it is not known."""
    pruner = dict(spec.pruner)
    most = pruner.get("max_resource", "auto")
    if most == "auto" and epochs is not None:
        most = epochs + 1  # what Optuna makes of the last epoch of the first complete trial
    if not str(pruner.get("_target_")).endswith(".HyperbandPruner") or not isinstance(most, int):
        return lambda number: 0
    keys = {key: value for key, value in pruner.items() if not key.startswith("_")}
    try:
        hyperband = HyperbandPruner(**{**keys, "max_resource": most})
        study = optuna.create_study(study_name=spec.study_name, pruner=hyperband)
        # Optuna's own way to a trial's bracket: a hash of the study's name and the trial's number.
        hyperband._try_initialization(study)
        return lambda number: hyperband._get_bracket_id(study, SimpleNamespace(number=number))  # type: ignore[arg-type]
    except (TypeError, ValueError, AttributeError):  # what it does not take is told of elsewhere
        return lambda number: 0
