"""The keys of `hydra/sweeper: besom`: those of hydra-optuna-sweeper, and Besom's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


@dataclass
class BesomSweeperConf:
    """What `hydra.sweeper` may hold."""

    _target_: str = "hydra_plugins.besom_sweeper.besom_sweeper.BesomSweeper"
    _recursive_: bool = False  # the sampler is built once for each trial, not by Hydra beforehand
    study_name: str | None = None  # null: the name of the sweep file
    direction: str | None = None  # null: the config's own `direction`, or minimize
    n_trials: int = 20  # the study's total: a second run adds only what is missing
    timeout: float | None = None  # seconds; no trial starts after that
    n_jobs: int | None = None  # trials at a time; null: one per device slot
    sampler: Any = None  # an Optuna sampler by _target_; null: TPE
    storage: str | None = None  # an Optuna storage URL; null: SQLite under mlruns/
    params: dict[str, Any] = field(default_factory=dict)
    when: dict[str, Any] = field(default_factory=dict)  # parameters that exist only for some choice
    max_failure_rate: float = 1.0  # share of n_trials that may fail before the sweep gives up
    devices: Any = "auto"  # auto, cpu, gpu, a number of GPUs, or a list of them
    trials_per_device: int = 1


ConfigStore.instance().store(group="hydra/sweeper", name="besom", node=BesomSweeperConf, provider="besom")
