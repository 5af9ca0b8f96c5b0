"""The spec of a sweep, read once from Hydra's config into a typed object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from besom.config.checks import resolved
from besom.config.paths import file_name
from besom.errors import ConfigError
from besom.sweep.spec_parts import BudgetSpec, DevicesSpec, FinalistsSpec, SearchSpec
from besom.system.urls import sqlite_url

_LONGEST_NAME = 210  # characters of a study's name: MLflow allows 250 for a tag, and the tag of the view adds some


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """The spec of a sweep: its study and the parts that its steps need: search, budget, devices and finalists."""

    study_name: str
    storage: str | Mapping[str, Any] | None = None
    search: SearchSpec
    budget: BudgetSpec = field(default_factory=BudgetSpec)
    devices: DevicesSpec = field(default_factory=DevicesSpec)
    finalists: FinalistsSpec | None = None
    quiet: bool = False
    dry_run: bool = False

    @classmethod
    def read(cls, config: DictConfig, *, app_name: str | None = None) -> SweepSpec:
        """Read the spec from a sweep's whole config, its `hydra` node included.

        With `app_name`, the config is that of another app, whose study has that name by default. Raises ConfigError
        naming the key.
        """
        job, foreign = config.hydra.job, app_name is not None
        source = f"{(job.config_name or job.name).removesuffix('.yaml')}.yaml"
        try:
            keys = resolved(config.hydra.sweeper)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
        study_name = keys["study_name"] or app_name or source.removesuffix(".yaml")
        if len(study_name) > _LONGEST_NAME:
            raise ConfigError(
                f"{source}: hydra.sweeper.study_name: it has {len(study_name)} characters; "
                f"MLflow takes {_LONGEST_NAME} of a study"
            )
        return cls(
            study_name=study_name,
            storage=keys["storage"],
            search=SearchSpec.read(config, keys, source, foreign=foreign),
            budget=BudgetSpec.read(keys, source),
            devices=DevicesSpec.read(config, keys, source, foreign=foreign),
            finalists=FinalistsSpec.read(keys, source, of_another_app=app_name is not None),
            quiet=keys["quiet"],
            dry_run=keys["dry_run"],
        )

    @property
    def source(self) -> str:
        """The name of the sweep's file, which errors name."""
        return self.search.source

    @property
    def folder(self) -> str:
        """The study's name as a valid name of a folder or a file."""
        return file_name(self.study_name)


def storage_url(directory: Path) -> str:
    """Return the URL of the default storage of studies."""
    return sqlite_url(directory / "optuna.db")
