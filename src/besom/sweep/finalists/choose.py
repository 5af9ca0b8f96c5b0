"""The choice of finalists: the trials that are trained again after the search, their seeds and their configs.

All finalists have the same seeds, so that two of them can be compared in pairs. Only these runs use the test part.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from omegaconf import DictConfig, OmegaConf

from besom.config.checks import check, flatten, has_test_part, recordable, resolved, select
from besom.config.units import Unit, axis_of
from besom.errors import BesomError, ConfigError, RunNotFound, one_of
from besom.reports.read.finalists import BASELINES, finalist_runs
from besom.reports.read.summary import Row, Summary
from besom.secrets.masks import hidden_override
from besom.sweep.compose import Composer
from besom.sweep.finalists.other_configs import OtherConfig, with_values
from besom.sweep.space.overrides import to_overrides
from besom.sweep.space.search_space import SearchSpace
from besom.sweep.spec import SweepSpec
from besom.sweep.spec_parts import FinalistsSpec
from besom.sweep.study.book import Asked
from besom.sweep.study.study import StudyBook
from besom.sweep.trials.jobs import Jobs
from besom.sweep.trials.trial import family, for_slot
from besom.tracking.recorder.recorder import RunCard
from besom.tracking.tags import FINALIST, StudyAttribute, Tag
from besom.workers.devices import Slot
from besom.workers.messages import Assignment

_SEEDS = 1_000_000
"""The upper bound of seeds: few digits, for a run's name."""
_NOT_THEIRS = ("seed", "test", "objective", "direction", "tracking", "trainer.accelerator", "trainer.devices")


@dataclass(frozen=True, kw_only=True)
class Entry(Asked):
    """A run of a finalist: a trial of the sweep with a seed; `number` is greater than those of the sweep's trials."""

    trial: int
    seed: int

    @property
    def name(self) -> str:
        """The name of the run in messages."""
        return f"trial {self.trial} with seed {self.seed}"

    @property
    def has_everybodys_data(self) -> bool:
        """False: finalists of several configs may have other data files."""
        return False


def choose(summary: Summary, top: int, *, left_out: Collection[int] = (), seed_key: str = "seed") -> tuple[Row, ...]:
    """Return the finalists: the `top` best configs, and the best baseline at any rank; no config twice.

    All of them are feasible. With several objectives, the best are those of the Pareto front.
    """
    feasible = [row for row in summary.rows if row.feasible and row.trial not in left_out]
    several = len(summary.objectives) > 1
    chosen: list[Row] = []
    for row in feasible:
        if several and row.trial not in summary.front:
            continue
        if len(chosen) < top and all(_config_of(row, seed_key) != _config_of(other, seed_key) for other in chosen):
            chosen.append(row)
    baseline = next((row for row in feasible if row.family in BASELINES), None)
    if baseline is not None and baseline.trial not in [row.trial for row in chosen]:
        chosen.append(baseline)
    return tuple(chosen)


def describe(finalists: FinalistsSpec) -> str:
    """Return a description of the finalists: their number, their seeds and their overrides."""
    changed = f", with {' '.join(to_overrides(finalists.overrides))}" if finalists.overrides else ""
    seeds = f"{finalists.seeds} fresh seed{'s' * (finalists.seeds > 1)}"
    if not finalists.tested:
        return f"the best {finalists.top} again, {seeds} each{changed}"
    return f"the best {finalists.top} and the best baseline again, {seeds} each{changed}, and tested"


def _config_of(row: Row, seed_key: str) -> tuple[int, Mapping[str, Any]]:
    return row.config or 1, {key: value for key, value in row.params.items() if key != seed_key}


def fresh_seeds(seed: int, finalists: FinalistsSpec, *, taken: Collection[int] = ()) -> tuple[int, ...]:
    """Return different seeds that are not `taken`, derived from the sweep's seed; a larger number keeps the first ones.

    Other overrides have other seeds: runs are identified by trial and seed, and must not be confused.
    """
    drawn = random.Random(f"finalists {seed} {json.dumps(finalists.overrides, sort_keys=True, default=str)}")
    seeds: list[int] = []
    while len(seeds) < finalists.seeds:
        candidate = drawn.randrange(_SEEDS)
        if candidate not in seeds and candidate not in taken:
            seeds.append(candidate)
    return tuple(seeds)


Other = TypeVar("Other", covariant=True)


class Configs(Protocol[Other]):
    """The configs of trials of a study that differ from the sweep's config."""

    def concern(self, row: Row) -> bool:
        """Return whether a trial's config differs from the sweep's."""

    def of(self, row: Row) -> Other:
        """Return what a trial is run again from. Raises BesomError with the reason why it cannot be."""


@dataclass(frozen=True, kw_only=True)
class Missing(Generic[Other]):
    """The finalists' runs that are not recorded as complete, in the order in which they are trained.

    `others` are the configs of trials whose config differs from the sweep's; `left_out` are the trials whose config is
    not available, with the reason.
    """

    entries: tuple[Entry, ...]
    others: Mapping[int, Other]
    left_out: tuple[tuple[Row, str], ...]


def missing(
    finalists: FinalistsSpec,
    space: SearchSpace,
    book: StudyBook,
    summary: Summary,
    configs: Configs[Other],
    *,
    seed: int,
) -> Missing[Other]:
    """Choose the finalists, store them in the study, and return their missing runs.

    A trial whose config is not available is replaced by the next best one, unless all its runs are complete.

    The runs are ordered by seed, so that the finalists of an interrupted sweep can be compared.
    """
    trials = book.study.get_trials(deepcopy=False)
    complete = {(run.trial, run.seed) for run in finalist_runs(book.study.user_attrs) if run.reason is None}
    others: dict[int, Other] = {}
    left_out: list[tuple[Row, str]] = []
    passed: set[int] = set()
    while True:
        rows = choose(summary, finalists.top, left_out=passed, seed_key=finalists.seed_key)
        params = {row.trial: space.params_of(trials[row.trial]) for row in rows}
        taken = [seed, *(value for point in params.values() if isinstance(value := point.get(finalists.seed_key), int))]
        seeds = fresh_seeds(seed, finalists, taken=taken)
        every = [(row.trial, seed) for seed in seeds for row in rows]
        wanted = [one for one in every if one not in complete]
        to_train = {trial for trial, _ in wanted} - others.keys()
        asked = [row for row in rows if row.trial in to_train and configs.concern(row)]
        for row in asked:
            try:
                others[row.trial] = configs.of(row)
            except BesomError as error:
                left_out.append((row, str(error)))
                passed |= {row.trial, *_alike(row, error, summary) - {trial for trial, _ in complete}}
        if not asked:
            break
    chosen = {"trials": [row.trial for row in rows], "seeds": list(seeds), "overrides": dict(finalists.overrides)}
    if book.study.user_attrs.get(StudyAttribute.FINALISTS) != chosen:
        book.set_user_attr(StudyAttribute.FINALISTS, chosen)
    entries = [
        Entry(number=len(trials) + index, trial=trial, params=params[trial], seed=seed)
        for index, (trial, seed) in enumerate(every)  # a job of another app has its number in its folder's name
        if (trial, seed) in wanted
    ]
    return Missing(entries=tuple(entries), others=others, left_out=tuple(left_out))


def _alike(row: Row, error: BesomError, summary: Summary) -> set[int]:
    """Return the trials that would be left out for the same reason, so that it is printed once."""
    same = [other for other in summary.rows if (other.config, other.family) == (row.config, row.family)]
    return {other.trial for other in same if not (isinstance(error, RunNotFound) and other.run_id)}


class FinalistJobs(Jobs):
    """Prepares finalists for workers: the trial's config with another seed, the overrides, and the test enabled."""

    def __init__(
        self,
        composer: Composer,
        runs: Missing[OtherConfig],
        *,
        study_name: str,
        overrides: Mapping[str, Any],
        tags: Mapping[str, str],
        fidelity: Unit = Unit.EPOCH,
    ) -> None:
        self._composer = composer
        self._entries = {entry.number: entry for entry in runs.entries}
        self._others = runs.others
        self._overrides = overrides
        self._study_name = study_name
        self._tags = tags
        self._fidelity = fidelity

    def prepare(self, asked: Asked, slot: Slot, directory: Path) -> tuple[Assignment, RunCard]:
        """Return the assignment for the worker of a slot, and the card of the run. Raises ConfigError."""
        entry = self._entries[asked.number]
        other = self._others.get(entry.trial)
        config = self._composer.compose(entry.params) if other is None else other.config
        config = for_slot(with_values(config, {**self._overrides, "seed": entry.seed}), slot, test=True)
        check(config)
        trust = other.trust if other else None
        plain = resolved(config)
        assignment = Assignment(trial=entry.number, config=plain, directory=directory, trust=trust)
        return assignment, replace(self.card(entry, directory, recordable(config)), axis=axis_of(plain, self._fidelity))

    def card(self, asked: Asked, directory: Path, config: Mapping[str, Any]) -> RunCard:
        """Return the card of a finalist's run, whose tags link it to its trial and distinguish it from trials."""
        entry = self._entries[asked.number]
        other = self._others.get(entry.trial)
        overrides = self._composer.overrides(entry.params) if other is None else other.overrides
        added = to_overrides({**self._overrides, "seed": entry.seed, "test": True})
        return RunCard(
            name=f"{self._study_name}-{entry.trial}-seed-{entry.seed}",
            config=config,
            params=entry.params,
            directory=directory,
            tags={
                **self._tags,
                **({} if other is None else {Tag.CONFIG: str(other.number)}),
                Tag.KIND: FINALIST,
                Tag.FINALIST: str(entry.trial),
                Tag.SEED: str(entry.seed),
                Tag.FAMILY: family(config),
                Tag.OVERRIDES: " ".join(map(hidden_override, [*overrides, *added])),
            },
        )


def check_finalists(spec: SweepSpec, space: SearchSpace, composer: Composer) -> None:
    """Raise ConfigError, naming the key, for finalists that could not be run, tested or registered."""
    if spec.finalists is None:
        return
    configs = [composer.compose(params) for params in space.examples(at_least_one=True)]
    if spec.finalists.tested:
        _check_tested(spec, spec.finalists, configs)
    else:
        for config in configs:
            _check_seed_key(spec.source, spec.finalists.seed_key, config)
    where = f"{spec.source}: hydra.sweeper.finalists.overrides"
    decided = _NOT_THEIRS if spec.finalists.tested else (spec.finalists.seed_key,)
    for key in spec.finalists.overrides:
        if any(f"{key}.".startswith(f"{other}.") for other in decided):
            raise ConfigError(f"{where}: {key} is what the sweep decides, for all of them; leave it out")
        if key[:1] in ("", "+", "~") or "@" in key or composer.chooses(key):
            raise ConfigError(f"{where}: '{key}' is no plain key; write such as trainer.max_epochs: 60")
    for config in configs if spec.finalists.overrides else ():
        try:
            changed = with_values(config, {**spec.finalists.overrides, spec.finalists.seed_key: spec.search.seed})
            if spec.finalists.tested:
                check(changed)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error


def _check_tested(spec: SweepSpec, finalists: FinalistsSpec, configs: Sequence[DictConfig]) -> None:
    """Raise ConfigError for finalists of Besom's own configs that could not be tested or registered."""
    if finalists.register and not configs[0].tracking.enabled:
        raise ConfigError(
            f"{spec.source}: hydra.sweeper.finalists.register: with tracking=none there is no run to register; "
            "record the runs, or leave it out"
        )
    if not all(map(has_test_part, configs)):
        raise ConfigError(
            f"{spec.source}: hydra.sweeper.finalists: they are tested, and the data has no test part; "
            "set data.test_fraction, or leave them out"
        )


def _check_seed_key(source: str, key: str, config: DictConfig) -> None:
    """Raise ConfigError if another app's config has no such key."""
    parent, _, name = key.rpartition(".")
    node = select(config, parent) if parent else config
    if not (OmegaConf.is_dict(node) and name in list(node)):
        known = [key for key, _ in flatten(OmegaConf.to_container(config, resolve=False))]  # type: ignore[arg-type]
        raise ConfigError(f"{source}: hydra.sweeper.seed_key: the app's config has no key {key}; {one_of(key, known)}")
