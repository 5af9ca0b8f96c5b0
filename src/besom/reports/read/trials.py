"""Parameters, constraints and ranking of Optuna's trials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from besom.config.objectives import Objective


def constraints_of(trial: FrozenTrial) -> list[float]:
    """Return a trial's constraint values, satisfied if <= 0: Optuna 5 stores them by name, Optuna 4 as a list."""
    kept = trial.system_attrs
    named = [value for key, value in kept.items() if key.startswith("constraints:")]
    return named or list(kept.get("constraints") or ())


def is_feasible(trial: FrozenTrial) -> bool:
    """Return whether a trial satisfies all its constraints, if any."""
    return all(value <= 0 for value in constraints_of(trial))


def plain_params(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's parameters by config key, without the condition that distinguishes two of one key."""
    return {name.partition(" ")[0]: value for name, value in trial.params.items()}


def best_of(trials: Iterable[FrozenTrial], objectives: Sequence[Objective]) -> FrozenTrial | None:
    """Return the best complete and feasible trial; with several objectives, the best in the first one."""
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
