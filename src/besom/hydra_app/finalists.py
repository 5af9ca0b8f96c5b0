"""Finalists of another Hydra app: its best jobs again, from their overrides, with other seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from besom.config.checks import flatten
from besom.config.units import Unit
from besom.errors import ConfigError, RunNotFound, first_few
from besom.reports.read.configs import OF_A_CHOICE, configs_of, differences
from besom.reports.read.summary import Row
from besom.secrets.masks import hidden_override, missing_variables
from besom.sweep.compose import Composer
from besom.sweep.finalists.choose import Configs, Entry, Missing
from besom.sweep.space.overrides import to_overrides
from besom.sweep.spec_parts import FinalistsSpec
from besom.sweep.study.book import Asked
from besom.sweep.study.study import StudyBook
from besom.sweep.trials.jobs import Jobs
from besom.tracking.recorder.recorder import RunCard
from besom.tracking.tags import FINALIST, Tag, TrialAttribute
from besom.workers.devices import Slot
from besom.workers.messages import Assignment

Overrides = tuple[str, ...]


class RecordedOverrides(Configs[Overrides]):
    """The recorded overrides of trials whose config is not that of this sweep, which has this `number`.

    They lead to the same config again if only the command line has changed since, and not the app's files.
    """

    def __init__(
        self, book: StudyBook, composer: Composer, plain: Callable[[DictConfig], Mapping[str, Any]], *, number: int
    ) -> None:
        self._book = book
        self._composer = composer
        self._plain = plain
        self._number = number

    def concern(self, row: Row) -> bool:
        """Return whether a trial's config differs from the sweep's."""
        return (row.config or 1) != self._number

    def of(self, row: Row) -> Overrides:
        """Return a trial's overrides. Raises BesomError with the reason why they do not lead to its config any more."""
        attrs = self._book.study.get_trials(deepcopy=False)[row.trial].user_attrs
        overrides = tuple(attrs.get(TrialAttribute.OVERRIDES, ()))
        if not overrides:
            raise RunNotFound("its overrides were not recorded")
        if missing := missing_variables(list(overrides)):
            raise ConfigError(f"secrets are not recorded; set {' and '.join(missing)}")
        now = {key: str(value) for key, value in flatten(self._plain(self._composer.compose_line(overrides)))}
        before = self._recorded(row)
        if changes := differences(before, {key: now[key] for key in before if key in now}):
            raise ConfigError(f"the app's configs have changed ({first_few(changes)}); restore them to run it again")
        return overrides

    def _recorded(self, row: Row) -> dict[str, str]:
        """Return the values that the study knows of a trial's config, except those of other choices."""
        config = configs_of(self._book.study.user_attrs).get(row.config or 1, {})
        choice = " ".join(f"{key}={value}" for key, value in row.params.items() if self._composer.chooses(key))
        common = {key: value for key, value in config.items() if OF_A_CHOICE not in key}
        head = f"{choice}{OF_A_CHOICE}"
        return {**common, **{key.removeprefix(head): value for key, value in config.items() if key.startswith(head)}}


class HydraFinalistJobs(Jobs):
    """Prepares finalists for the app's workers: a trial's overrides, those of the finalists, and another seed."""

    def __init__(
        self,
        composer: Composer,
        runs: Missing[Overrides],
        finalists: FinalistsSpec,
        *,
        study_name: str,
        tags: Mapping[str, str],
    ) -> None:
        self._composer = composer
        self._entries = {entry.number: entry for entry in runs.entries}
        self._others = runs.others
        self._finalists = finalists
        self._study_name = study_name
        self._tags = tags

    def prepare(self, asked: Asked, slot: Slot, directory: Path) -> tuple[Assignment, RunCard]:
        """Return the assignment with the job's overrides, and a card, to which the worker's config is added later."""
        overrides = self._overrides(self._entries[asked.number])
        card = self.card(asked, directory, {})
        assignment = Assignment(trial=asked.number, overrides=overrides, directory=directory)
        return assignment, replace(card, tags={**card.tags, Tag.DEVICE: str(slot)})

    def card(self, asked: Asked, directory: Path, config: Mapping[str, Any]) -> RunCard:
        """Return the card of a finalist's run, whose tags link it to its trial and distinguish it from trials."""
        entry = self._entries[asked.number]
        return RunCard(
            name=f"{self._study_name}-{entry.trial}-seed-{entry.seed}",
            config=config,
            params=entry.params,
            directory=directory,
            axis=Unit.STEP,  # the app's own
            tags={
                **self._tags,
                Tag.KIND: FINALIST,
                Tag.FINALIST: str(entry.trial),
                Tag.SEED: str(entry.seed),
                Tag.OVERRIDES: " ".join(map(hidden_override, self._overrides(entry))),
            },
        )

    def _overrides(self, entry: Entry) -> Overrides:
        recorded = self._others.get(entry.trial) or self._composer.overrides(entry.params)
        added = {**self._finalists.overrides, self._finalists.seed_key: entry.seed}
        return (*recorded, *to_overrides(added))
