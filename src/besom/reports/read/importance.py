"""Which parameters mattered, by PED-ANOVA: how much they differ between the best trials and all of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import optuna
from optuna.trial import TrialState

ENOUGH = 8
"""With fewer complete trials, the answer is noise."""


def importances(study: optuna.Study) -> Mapping[str, float]:
    """Return the share of each parameter in what a trial came to, the largest first; they sum to 1.

    Empty where that cannot be told: too few complete trials, all with one value, or a space that Optuna cannot assess.
    Conditional parameters count where they exist (Watanabe et al., IJCAI 2023 and its sequel), from Optuna 5 on.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < ENOUGH or len({tuple(trial.values) for trial in complete}) < 2:
        return {}
    # Half a second that a short sweep does without.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        except (ValueError, TypeError, ArithmeticError, RuntimeError, IndexError):
            return {}
    if not all(np.isfinite(share) for share in found.values()):
        return {}
    return dict(sorted(found.items(), key=lambda item: -item[1]))
