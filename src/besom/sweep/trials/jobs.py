"""Jobs: turn an asked trial into the assignment of a worker and the card of its run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from besom.bundle.compatibility import bundle_key
from besom.config.checks import check
from besom.config.units import Unit, axis_of
from besom.errors import ConfigError
from besom.secrets.masks import hidden_override
from besom.sweep.cached_configs import CachedConfig, CachedConfigs
from besom.sweep.compose import Composer
from besom.sweep.fidelity import PrunerCount
from besom.sweep.space.search_space import Params
from besom.sweep.study.book import Asked
from besom.sweep.trials.trial import family
from besom.tracking.recorder.recorder import RunCard
from besom.tracking.tags import Tag
from besom.workers.devices import Slot
from besom.workers.messages import Assignment, TrialResult


class Jobs(ABC):
    """Prepares trials for workers: Besom's own configs, or the jobs of another Hydra app."""

    may_be_infinite = False
    """Whether a trial with an infinite value is complete: Besom's own models have diverged by then."""

    def overrides(self, params: Params) -> list[str]:
        """Return the Hydra overrides of a trial's config, for the study; none unless they are needed there."""
        return []

    def prefetch(self, asked: Asked) -> str | None:
        """Prepare as much as possible while every slot is busy, so that `prepare` returns sooner.

        Return the bundle key, which trials of one bundle have in common; None for a trial that is not bundled.
        """
        return None

    def pruner_count(self, fidelity: Unit) -> PrunerCount:
        """Return what counts the reports of a trial for the pruner of a study of this fidelity."""
        return PrunerCount(fidelity)

    @abstractmethod
    def prepare(self, asked: Asked, slot: Slot, directory: Path) -> tuple[Assignment, RunCard]:
        """Return the assignment for the worker of a slot, and the card of the run.

        Raises ConfigError when the parameters do not result in a valid config.
        """

    @abstractmethod
    def card(self, asked: Asked, directory: Path, config: Mapping[str, Any]) -> RunCard:
        """Return the card of a trial's run."""

    def ended(self, trial: int, result: TrialResult) -> None:  # noqa: B027  # a default
        """Handle the end of a trial, for jobs that keep results."""


class TrainingJobs(Jobs):
    """Prepares trials of Besom's own configs, which are composed in the parent process."""

    def __init__(
        self,
        composer: Composer,
        *,
        study_name: str,
        tags: Mapping[str, str],
        fidelity: Unit = Unit.EPOCH,
        bundles: bool = False,
        own_models: bool = False,
    ) -> None:
        self._composer = composer
        self._cached_configs = CachedConfigs(composer)
        self._study_name = study_name
        self._tags = tags
        self._fidelity = fidelity
        self._bundles = bundles
        self._own_models = own_models
        self._ahead: dict[int, CachedConfig | ConfigError] = {}

    def overrides(self, params: Params) -> list[str]:
        """Return the overrides with which `besom train` composes the same config."""
        return self._composer.overrides(params)

    def prefetch(self, asked: Asked) -> str | None:
        """Compose the config of a trial ahead, and return its bundle key; an error is raised by `prepare`."""
        try:
            self._ahead[asked.number] = cached_config = self._cached_configs.of(asked.params)
            return bundle_key(cached_config.config, own_models=self._own_models) if self._bundles else None
        except ConfigError as error:
            self._ahead[asked.number] = error
            return None

    def prepare(self, asked: Asked, slot: Slot, directory: Path) -> tuple[Assignment, RunCard]:
        """Compose a trial's config and check it. Raises ConfigError."""
        if asked.number not in self._ahead:
            self.prefetch(asked)
        cached_config = self._ahead.pop(asked.number)
        if isinstance(cached_config, ConfigError):
            raise cached_config
        config, recorded = cached_config.written_for(slot)
        check(config)
        assignment = Assignment(trial=asked.number, config=config, directory=directory)
        return assignment, replace(self.card(asked, directory, recorded), axis=axis_of(config, self._fidelity))

    def card(self, asked: Asked, directory: Path, config: Mapping[str, Any]) -> RunCard:
        """Return the card of a trial's run."""
        return RunCard(
            name=f"{self._study_name}-{asked.number}",
            config=config,
            params=asked.params,
            directory=directory,
            tags={
                **self._tags,
                Tag.TRIAL: str(asked.number),
                Tag.FAMILY: family(config),
                Tag.OVERRIDES: " ".join(map(hidden_override, self.overrides(asked.params))),
            },
        )
