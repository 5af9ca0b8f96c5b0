"""Parameter importances by PED-ANOVA: how much a parameter differs between the best trials and all trials."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import optuna
from optuna.trial import TrialState

ENOUGH = 8
"""The minimum of complete trials; with fewer, importances are noise."""


def importances(study: optuna.Study) -> Mapping[str, float]:
    """Return the importance of each parameter, the largest first; they sum to 1.

    Empty with too few complete trials, a single value, or a search space of which Optuna cannot evaluate enough.
    Conditional parameters count where they exist (Watanabe et al., IJCAI 2023 and its sequel), from Optuna 5 on.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < ENOUGH or len({tuple(trial.values) for trial in complete}) < 2:
        return {}
    # Imported here: it takes half a second that a short sweep does not need.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        except (ValueError, TypeError, ArithmeticError, RuntimeError, IndexError):
            return {}
    if not all(np.isfinite(share) for share in found.values()):
        return {}
    if len(found) == 1 < len({name for trial in complete for name in trial.params}):
        return {}  # Optuna 4 leaves conditional parameters out: the share of what remains says nothing
    return dict(sorted(found.items(), key=lambda item: -item[1]))
