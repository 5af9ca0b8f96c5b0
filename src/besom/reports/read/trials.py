"""What a report reads of one of Optuna's trials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from besom.config.objectives import Objective


def constraints_of(trial: FrozenTrial) -> list[float]:
    """A trial's constraints, zero or less where they hold: those that Optuna 5 keeps by name, and 4 in a row."""
    kept = trial.system_attrs
    named = [value for key, value in kept.items() if key.startswith("constraints:")]
    return named or list(kept.get("constraints") or ())


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps every constraint; one that was never held to any does."""
    return all(value <= 0 for value in constraints_of(trial))


def plain_params(trial: FrozenTrial) -> dict[str, Any]:
    """A trial's parameters by config key: their names without the condition that tells two of one key apart."""
    return {name.partition(" ")[0]: value for name, value in trial.params.items()}


def best_of(trials: Iterable[FrozenTrial], objectives: Sequence[Objective]) -> FrozenTrial | None:
    """The best complete and feasible trial; of several objectives, the one that is best in the first of them."""
    best: FrozenTrial | None = None
    for trial in trials:
        good = trial.state is TrialState.COMPLETE and is_feasible(trial)
        if good and (best is None or _is_better(trial.values, best.values, objectives)):
            best = trial
    return best


def _is_better(values: Sequence[float], others: Sequence[float], objectives: Sequence[Objective]) -> bool:
    for objective, value, other in zip(objectives, values, others, strict=True):
        if value != other:
            return objective.better(value, other)
    return False
