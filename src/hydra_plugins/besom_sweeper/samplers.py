"""The config group `hydra/sweeper/sampler`: Optuna's samplers by name, with Optuna's arguments and defaults.

A `seed` of null is that of the sweep. An argument of type `Any` is an object with a `_target_`, or a plain value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from besom.config.hydra_versions import store


@dataclass
class TPEConf:
    """Tree-structured Parzen estimator, the default: models the parameters of good trials."""

    _target_: str = "optuna.samplers.TPESampler"
    seed: int | None = None
    consider_prior: bool | None = None
    prior_weight: float | None = None
    consider_magic_clip: bool | None = None
    consider_endpoints: bool | None = None
    n_startup_trials: int = 10
    n_ei_candidates: int = 24
    gamma: Any = None
    weights: Any = None
    multivariate: bool | None = None
    group: bool = False
    warn_independent_sampling: bool | None = None
    constant_liar: bool = True
    constraints_func: Any = None


@dataclass
class RandomConf:
    """Independent random values of each parameter."""

    _target_: str = "optuna.samplers.RandomSampler"
    seed: int | None = None


@dataclass
class GridConf:
    """Every point once, the first parameter changing slowest."""

    _target_: str = "optuna.samplers.GridSampler"
    search_space: Any = None  # values of some parameters; null: all values of their ranges
    seed: int | None = None


@dataclass
class CmaEsConf:
    """CMA-ES, covariance matrix adaptation: for numeric parameters without conditions."""

    _target_: str = "optuna.samplers.CmaEsSampler"
    seed: int | None = None
    x0: Any = None  # KEY: VALUE lines
    sigma0: float | None = None
    n_startup_trials: int = 1
    independent_sampler: Any = None
    warn_independent_sampling: bool = True
    consider_pruned_trials: bool = False
    restart_strategy: str | None = None
    popsize: int | None = None
    inc_popsize: int = -1
    use_separable_cma: bool = False
    with_margin: bool = False
    lr_adapt: bool = False
    source_trials: Any = None


@dataclass
class GPConf:
    """Gaussian process: for few, expensive trials."""

    _target_: str = "optuna.samplers.GPSampler"
    seed: int | None = None
    independent_sampler: Any = None
    n_startup_trials: int = 10
    deterministic_objective: bool = False
    constraints_func: Any = None
    warn_independent_sampling: bool = True


@dataclass
class QMCConf:
    """Quasi-Monte Carlo: a quasi-random sequence, which covers the space evenly."""

    _target_: str = "optuna.samplers.QMCSampler"
    seed: int | None = None
    qmc_type: str = "sobol"
    scramble: bool = False
    independent_sampler: Any = None
    warn_asynchronous_seeding: bool = True
    warn_independent_sampling: bool = True


@dataclass
class NSGAIIConf:
    """NSGA-II, a genetic algorithm: for several objectives and many trials."""

    _target_: str = "optuna.samplers.NSGAIISampler"
    seed: int | None = None
    population_size: int = 50
    mutation: Any = None
    mutation_prob: float | None = None
    crossover: Any = None
    crossover_prob: float = 0.9
    swapping_prob: float = 0.5
    constraints_func: Any = None
    elite_population_selection_strategy: Any = None
    child_generation_strategy: Any = None
    after_trial_strategy: Any = None


@dataclass
class NSGAIIIConf(NSGAIIConf):
    """NSGA-III, a genetic algorithm: for more than three objectives."""

    _target_: str = "optuna.samplers.NSGAIIISampler"
    reference_points: Any = None
    dividing_parameter: int = 3


@dataclass
class BruteForceConf:
    """Every point once, in random order, with conditions."""

    _target_: str = "optuna.samplers.BruteForceSampler"
    seed: int | None = None
    avoid_premature_stop: bool = False


@dataclass
class PartialFixedConf:
    """Fixed values of some parameters, and another sampler for the others."""

    _target_: str = "optuna.samplers.PartialFixedSampler"
    fixed_params: Any = None  # KEY: VALUE lines
    base_sampler: Any = field(default_factory=lambda: {"_target_": "optuna.samplers.TPESampler"})


NODES = {
    "tpe": TPEConf,
    "motpe": TPEConf,  # TPE supports several objectives since Optuna 2
    "random": RandomConf,
    "grid": GridConf,
    "cmaes": CmaEsConf,
    "gp": GPConf,
    "qmc": QMCConf,
    "nsgaii": NSGAIIConf,
    "nsgaiii": NSGAIIIConf,
    "brute_force": BruteForceConf,
    "partial_fixed": PartialFixedConf,
}

for _name, _node in NODES.items():
    store("hydra/sweeper/sampler", _name, _node)
