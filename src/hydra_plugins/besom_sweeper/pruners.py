"""The config group `hydra/sweeper/pruner`: Optuna's pruners by name, with defaults for training by epochs.

`hydra.sweeper.fidelity` says what `min_resource`, `n_warmup_steps` and the like count: epochs, optimizer steps or
validations. With steps, resources that are left at their defaults are taken from the Trainer's config.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from besom.config.hydra_versions import store


@dataclass
class MedianConf:
    """Prunes a trial whose best value so far is worse than the median of the others at the same report."""

    _target_: str = "optuna.pruners.MedianPruner"
    n_startup_trials: int = 5
    n_warmup_steps: int = 0
    interval_steps: int = 1
    n_min_trials: int = 1


@dataclass
class PercentileConf:
    """Prunes as `median` does, but keeps only the best `percentile` percent."""

    _target_: str = "optuna.pruners.PercentilePruner"
    percentile: float = 25.0
    n_startup_trials: int = 5
    n_warmup_steps: int = 0
    interval_steps: int = 1
    n_min_trials: int = 1


@dataclass
class PatientConf:
    """Prunes a trial without improvement for `patience` reports, if `wrapped_pruner` agrees."""

    _target_: str = "optuna.pruners.PatientPruner"
    wrapped_pruner: Any = None
    patience: int = 5
    min_delta: float = 0.0


@dataclass
class ThresholdConf:
    """Prunes a trial whose value is out of bounds or NaN; at least one bound must be set."""

    _target_: str = "optuna.pruners.ThresholdPruner"
    lower: float | None = None
    upper: float | None = None
    n_warmup_steps: int = 0
    interval_steps: int = 1


@dataclass
class SuccessiveHalvingConf:
    """Keeps the best third of the trials after 1, 3, 9 … epochs, or what `fidelity` names."""

    _target_: str = "optuna.pruners.SuccessiveHalvingPruner"
    min_resource: Any = 1  # before the first decision, or auto
    reduction_factor: int = 3
    min_early_stopping_rate: int = 0
    bootstrap_count: int = 0


@dataclass
class HyperbandConf:
    """Successive halving in brackets, some of which start pruning later: for learning curves that cross."""

    _target_: str = "optuna.pruners.HyperbandPruner"
    min_resource: int = 1
    max_resource: Any = "auto"  # of a complete trial; auto: that of the first one
    reduction_factor: int = 3
    bootstrap_count: int = 0


@dataclass
class WilcoxonConf:
    """Prunes a trial that is worse by a Wilcoxon signed-rank test; for steps that are repetitions, such as folds."""

    _target_: str = "optuna.pruners.WilcoxonPruner"
    p_threshold: float = 0.1
    n_startup_steps: int = 2


NODES: dict[str, Any] = {
    "none": {},
    "median": MedianConf,
    "percentile": PercentileConf,
    "patient": PatientConf,
    "threshold": ThresholdConf,
    "successive_halving": SuccessiveHalvingConf,
    "hyperband": HyperbandConf,
    "wilcoxon": WilcoxonConf,
}

for _name, _node in NODES.items():
    store("hydra/sweeper/pruner", _name, _node)
