"""What a sweep was asked to do, read once from Hydra's config into a typed object."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from besom.config import DIRECTIONS
from besom.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """A sweep: its study, how many trials, by which sampler, on which devices."""

    study_name: str
    objective: str
    direction: str
    n_trials: int
    timeout_s: float | None
    sampler: Mapping[str, Any]
    seed: int
    storage: str | None
    devices: str | int | Sequence[int]
    trials_per_device: int
    n_jobs: int | None
    max_failure_rate: float
    source: str

    @classmethod
    def read(cls, config: DictConfig) -> SweepSpec:
        """Read the spec from a sweep's whole config, its `hydra` node included.

        Raises ConfigError naming the key.
        """
        sweeper = config.hydra.sweeper
        name = config.hydra.job.config_name or "sweep"
        source = f"{name}.yaml"
        direction = sweeper.direction or config.get("direction") or "minimize"
        sampler = OmegaConf.to_container(sweeper.sampler, resolve=True) if OmegaConf.is_dict(sweeper.sampler) else {}
        assert isinstance(sampler, dict)
        if sweeper.sampler and not sampler:
            raise ConfigError(
                f"{source}: hydra.sweeper.sampler: '{sweeper.sampler}' names no class; "
                "write it as {_target_: optuna.samplers.TPESampler}"
            )
        devices = sweeper.devices
        if devices == "auto" and str(OmegaConf.select(config, "trainer.accelerator")) in (
            "cpu",
            "gpu",
            "cuda",
        ):
            devices = config.trainer.accelerator
        spec = cls(
            study_name=sweeper.study_name or name,
            objective=config.get("objective") or "the returned value",
            direction=str(direction),
            n_trials=sweeper.n_trials,
            timeout_s=sweeper.timeout,
            sampler={str(key): value for key, value in sampler.items()},
            seed=int(config.get("seed") or 0),
            storage=sweeper.storage,
            devices=devices if isinstance(devices, str | int) else list(devices),
            trials_per_device=sweeper.trials_per_device,
            n_jobs=sweeper.n_jobs,
            max_failure_rate=sweeper.max_failure_rate,
            source=source,
        )
        spec._check()
        return spec

    def _check(self) -> None:
        for key, value, low in (
            ("n_trials", self.n_trials, 1),
            ("trials_per_device", self.trials_per_device, 1),
            ("n_jobs", self.n_jobs, 1),
            ("timeout", self.timeout_s, 0),
            ("max_failure_rate", self.max_failure_rate, 0),
        ):
            if value is not None and value < low:
                raise ConfigError(f"{self.source}: hydra.sweeper.{key}: {value} is below {low}; raise it")
        if self.direction not in DIRECTIONS:
            raise ConfigError(f"{self.source}: direction: '{self.direction}' is unknown; use {' or '.join(DIRECTIONS)}")

    @property
    def folder(self) -> str:
        """The study's name as a name of a folder or a file."""
        return re.sub(r"[^\w-]", "_", self.study_name)

    def storage_url(self, directory: Path) -> str:
        """The study's database: the URL that was asked for, or SQLite under `directory`."""
        return self.storage or f"sqlite:///{directory / 'optuna.db'}"
