"""The keys of `hydra/sweeper: besom`: those of hydra-optuna-sweeper, and Besom's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from besom.config.hydra_versions import store
from hydra_plugins.besom_sweeper import pruners, samplers  # noqa: F401  (registers hydra/sweeper/sampler and pruner)


@dataclass
class FinalistsConf:
    """What `hydra.sweeper.finalists` may hold."""

    top: int | None = None  # the best so many, and the best baseline; null: none at all
    seeds: int | None = None  # runs of each; null: 5
    overrides: Any = None  # values that their configs get on top, such as {trainer.max_epochs: 60}
    register: str | None = None  # the winner's best run goes into MLflow's registry by this name


@dataclass
class BesomSweeperConf:
    """What `hydra.sweeper` may hold."""

    # A sampler's or pruner's keys come by its name (override hydra/sweeper/sampler: tpe), or by hand with _target_.
    defaults: list[Any] = field(default_factory=lambda: ["_self_", {"sampler": None}, {"pruner": None}])

    _target_: str = "hydra_plugins.besom_sweeper.besom_sweeper.BesomSweeper"
    _recursive_: bool = False  # the sampler is built once for each trial, not by Hydra beforehand

    # What to look for.
    study_name: str | None = None  # null: the name of the sweep file
    direction: Any = None  # minimize, maximize, or one for each objective; null: the config's own, or minimize
    params: dict[str, Any] | None = field(default_factory=dict)
    when: dict[str, Any] | None = field(default_factory=dict)  # parameters that exist only for some choice
    search_space: Any = None  # refused: hydra-optuna-sweeper took it until its version 1.2
    custom_search_space: str | None = None  # a function (config, trial) by its dotted name, asked after `params`
    constraints: list[str] = field(default_factory=list)  # such as cost/params <= 50000
    enqueue: list[Any] = field(default_factory=list)  # known good parameters, tried first
    enqueue_from: str | None = None  # another study, whose best parameters are tried first

    # How to look for it.
    sampler: Any = None  # an Optuna sampler by _target_; null: TPE
    pruner: Any = None  # an Optuna pruner by _target_; null: none

    # How long: whichever comes first.
    n_trials: int | None = 20  # the study's total: a second run adds only what is missing; null: no end
    timeout: float | None = None  # seconds; no trial starts after that
    patience: int | None = None  # trials without a better one

    # What is trained again in the end, and tested; null: nothing.
    finalists: FinalistsConf | None = field(default_factory=FinalistsConf)

    # What may go wrong.
    max_failure_rate: float = 1.0  # share of n_trials that may fail before the sweep gives up
    retries: int = 0  # further attempts at the parameters of a trial that failed
    trial_timeout: float | None = None  # seconds for one trial
    max_trials_per_worker: int | None = None  # then a fresh process takes over, against code that leaks

    # Where.
    devices: Any = "auto"  # auto, cpu, gpu, a number of GPUs, or a list of them
    trials_per_device: int = 1
    devices_per_trial: int = 1
    n_jobs: int | None = None  # trials at a time; null: one per device slot
    bundle: Any = "auto"  # trials of small models that one slot trains at once: auto, off, or how many
    storage: Any = None  # an Optuna storage URL, or a storage by _target_; null: SQLite under mlruns/
    tracking: Any = None  # another app's runs go to MLflow with true, or {uri: …, experiment: …, directory: …, …}

    # What is shown.
    quiet: bool = False
    dry_run: bool = False  # show what would be done, and what looks wrong


store("hydra/sweeper", "besom", BesomSweeperConf)
