"""Parameter importances: the share of each parameter in the variance of the objective, by fANOVA where it can tell."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import optuna
from optuna.trial import TrialState

ENOUGH = 8
"""The minimum of complete trials; with fewer, importances are noise."""

FANOVA, PED_ANOVA = "fANOVA", "PED-ANOVA"

_TREES, _DEPTH = 32, 6
"""The size of fANOVA's forest: a second for 3,000 trials of ten parameters, and within 0.04 of Optuna's usual one,
which takes minutes there."""


@dataclass(frozen=True, kw_only=True)
class Importances:
    """The importance of each parameter, the largest first, which sum to 1, and the name of the method."""

    shares: Mapping[str, float] = field(default_factory=dict)
    method: str = ""


NO_IMPORTANCES = Importances()


def importances(study: optuna.Study) -> Importances:
    """Return the importance of each parameter of a study.

    fANOVA (Hutter et al., ICML 2014) tells what the objective depends on. It needs one objective, and the same
    parameters in all trials; otherwise PED-ANOVA (Watanabe et al., IJCAI 2023 and its sequel) tells how much a
    parameter differs between the best tenth of the trials and all of them. Sampled by TPE, most trials may agree in
    the parameter that matters most, which then sets none of them apart. It is the only one for conditional parameters,
    from Optuna 5 on.

    Empty with too few complete trials, a single value, or a search space of which Optuna cannot evaluate enough.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < ENOUGH or len({tuple(trial.values) for trial in complete}) < 2:
        return NO_IMPORTANCES
    # Imported here: it takes half a second that a short sweep does not need.
    from optuna.importance import (
        FanovaImportanceEvaluator,
        PedAnovaImportanceEvaluator,
        get_param_importances,
    )

    names = [frozenset(trial.params) for trial in complete]
    alike = len(study.directions) == 1 and len(set(names)) == 1
    method = FANOVA if alike else PED_ANOVA
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            evaluator = (
                FanovaImportanceEvaluator(n_trees=_TREES, max_depth=_DEPTH, seed=0)
                if alike
                else PedAnovaImportanceEvaluator()
            )
            found = get_param_importances(study, evaluator=evaluator)
        except (ValueError, TypeError, ArithmeticError, RuntimeError, IndexError):
            return NO_IMPORTANCES
    if not all(np.isfinite(share) for share in found.values()):
        return NO_IMPORTANCES
    if len(found) == 1 < len(frozenset.union(*names)):
        return NO_IMPORTANCES  # Optuna 4 leaves conditional parameters out: the share of what remains says nothing
    shares = {name: float(share) for name, share in sorted(found.items(), key=lambda item: -item[1])}
    return Importances(shares=shares, method=method)
