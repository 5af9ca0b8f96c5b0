"""The config schema of `hydra/sweeper: besom`: the keys of hydra-optuna-sweeper, and Besom's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from besom.config.hydra_versions import store
from besom.errors import ConfigError, one_of
from hydra_plugins.besom_sweeper import pruners, samplers  # noqa: F401  (registers hydra/sweeper/sampler and pruner)
from hydra_plugins.besom_sweeper._finalists import FinalistsConf
from hydra_plugins.besom_sweeper._target import BESOM, SweeperTarget


@dataclass
class BesomSweeperConf:
    """The schema of `hydra.sweeper`."""

    # The keys of a sampler or pruner come with its name (override hydra/sweeper/sampler: tpe), or with _target_.
    defaults: list[Any] = field(default_factory=lambda: ["_self_", {"sampler": None}, {"pruner": None}])

    _target_: str = BESOM
    _recursive_: bool = False  # Besom builds a sampler for each trial, not Hydra

    # The search.
    study_name: str | None = None  # null: the name of the sweep file
    direction: Any = None  # minimize, maximize, or one for each objective; null: the config's own, or minimize
    params: dict[str, Any] | None = field(default_factory=dict)
    when: dict[str, Any] | None = field(default_factory=dict)  # conditional parameters
    search_space: Any = None  # further params: the older name, which hydra-optuna-sweeper has had until version 1.2
    custom_search_space: str | None = None  # the dotted name of a function (config, trial), called after `params`
    constraints: list[str] = field(default_factory=list)  # such as cost/params <= 50000
    enqueue: list[Any] = field(default_factory=list)  # parameters to try first
    enqueue_from: str | None = None  # another study, whose best parameters are tried first

    # The algorithms.
    sampler: Any = None  # an Optuna sampler by _target_; null: TPE
    pruner: Any = None  # an Optuna pruner by _target_; null: none
    fidelity: Any = "epochs"  # what a pruner counts: epochs, steps or validations

    # The budget: whichever ends first.
    # Of the study in total: a resumed sweep runs only the missing ones; null: no end; auto: 20, or each point once of a
    # grid, of choices alone, and of at most 20 points.
    n_trials: Any = "auto"
    timeout: float | None = None  # seconds, after which no trial starts
    patience: int | None = None  # trials without an improvement

    # Trials to train again and test at the end; null: none.
    finalists: FinalistsConf | None = field(default_factory=FinalistsConf)

    seed_key: str | None = None  # of another app: the key of its seed, such as seed, which finalists need

    # Failures.
    max_failure_rate: float = 1.0  # share of n_trials that may fail before the sweep gives up
    retries: int = 0  # further attempts at the parameters of a trial that failed
    trial_timeout: float | None = None  # seconds for one trial
    max_trials_per_worker: int | None = None  # then a new process replaces it; 1: a process a trial

    # Resources.
    devices: Any = "auto"  # auto, cpu, gpu, a number of GPUs, or a list of them
    trials_per_device: int = 1
    devices_per_trial: int = 1
    n_jobs: int | None = None  # concurrent trials; null: one per slot
    threads_per_trial: int | None = None  # CPU threads; null: one for Besom's own models, all cores shared for an app
    bundle: Any = "auto"  # the number of small models that a slot trains at once, auto, or off
    storage: Any = None  # an Optuna storage URL, or a storage by _target_; null: SQLite under mlruns/
    tracking: Any = None  # of another app: true, or {uri: …, experiment: …, directory: …, …}, records in MLflow

    # Output.
    quiet: bool = False
    dry_run: bool = False  # only show the trials, errors and warnings


# For apps that build on the dataclasses of hydra_plugins.hydra_optuna_sweeper.config: the same names in this module.
OptunaSweeperConf = BesomSweeperConf
TPESamplerConfig = samplers.TPEConf
MOTPESamplerConfig = samplers.TPEConf
RandomSamplerConfig = samplers.RandomConf
CmaEsSamplerConfig = samplers.CmaEsConf
NSGAIISamplerConfig = samplers.NSGAIIConf
GridSamplerConfig = samplers.GridConf

_SCHEMA = OmegaConf.structured(BesomSweeperConf)
_SCHEMA["_target_"] = SweeperTarget(BESOM)
store("hydra/sweeper", "besom", _SCHEMA)


def with_all_keys(config: DictConfig) -> DictConfig:
    """Return the config of an app with all keys of `hydra.sweeper`, which may be a dataclass of hydra-optuna-sweeper's.

    Raises ConfigError for a key that Besom's sweeper does not have.
    """
    keys = OmegaConf.to_container(config.hydra.sweeper, enum_to_str=True)
    assert isinstance(keys, dict)
    known = [str(key) for key in _SCHEMA if key != "defaults"]  # Hydra takes these out
    if set(known) <= set(keys):
        return config
    for key in keys:
        if key not in known:
            raise ConfigError(f"hydra.sweeper: there is no key {key!s}; {one_of(str(key), known)}")
    merged = OmegaConf.to_container(OmegaConf.merge(_SCHEMA, keys))
    assert isinstance(merged, dict)
    completed = config.copy()
    with open_dict(completed):
        completed.hydra.sweeper = {key: value for key, value in merged.items() if key in known}
    return completed
