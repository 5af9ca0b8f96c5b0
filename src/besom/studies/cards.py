"""The studies of a storage, for `besom studies`, `besom report` and `besom best`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table
from rich.text import Text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from besom.config.objectives import Objective
from besom.config.paths import file_name
from besom.errors import RunNotFound, StoreError, one_of
from besom.reports.format import number
from besom.reports.read.configs import configs_of
from besom.reports.read.finalists import winning_trial
from besom.reports.read.pareto import Front
from besom.reports.read.trials import best_of, is_feasible
from besom.reports.times import moment
from besom.secrets.masks import mask
from besom.sweep.spec import storage_url
from besom.sweep.study.lock import holder_on_server
from besom.sweep.study.storage import open_storage, translated
from besom.system.locks import holder
from besom.tracking.tags import StudyAttribute

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Stage(StrEnum):
    """The progress of a study."""

    RUNNING = "running"
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    NOT_STARTED = "not started"
    OPEN = "open"  # its number of trials is not set


@dataclass(frozen=True, kw_only=True)
class StudyCard:
    """A study of a storage: its trials, and what its user attributes hold.

    `total` is the number of trials that it is to have, `pid` the process that sweeps it now, with the host if that is
    another one. `described` is the recorded sweep spec, `configs` the flattened configs that trials started from, by
    number, `winner` the winning trial among its finalists, `on_top` the finalists' overrides by config key.
    """

    name: str
    objectives: tuple[Objective, ...]
    trials: tuple[FrozenTrial, ...] = field(repr=False)
    described: Mapping[str, Any] = field(repr=False)
    configs: Mapping[int, Mapping[str, str]] = field(repr=False)
    total: int | None
    pid: str | None
    winner: int | None = None
    on_top: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def count(self, *states: TrialState) -> int:
        """Return the number of trials in one of these states."""
        return sum(trial.state in states for trial in self.trials)

    @property
    def over(self) -> int:
        """The number of trials that are over."""
        return self.count(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

    @property
    def stage(self) -> Stage:
        """The progress of the study."""
        if self.pid is not None:
            return Stage.RUNNING
        if not self.trials:
            return Stage.NOT_STARTED
        if self.total is None and not self.count(TrialState.RUNNING, TrialState.WAITING):
            return Stage.OPEN
        return Stage.COMPLETE if self.total is not None and self.over >= self.total else Stage.INTERRUPTED

    @property
    def best(self) -> FrozenTrial | None:
        """The best trial; of several objectives, the one that is best in the first."""
        return best_of(self.trials, self.objectives)

    @property
    def chosen(self) -> FrozenTrial | None:
        """The trial to use: the winner of the finalists, once all their runs are over, else the best one."""
        return next((trial for trial in self.trials if trial.number == self.winner), self.best)

    @property
    def front(self) -> tuple[int, ...]:
        """The trials on the Pareto front, if there are several objectives."""
        front = Front(self.objectives)
        if len(self.objectives) > 1:
            for trial in self.trials:
                if trial.state is TrialState.COMPLETE and is_feasible(trial):
                    front.add(trial.number, tuple(trial.values))
        return front.trials

    @property
    def last_activity(self) -> datetime | None:
        """The time when a trial last started or ended."""
        times = [time for trial in self.trials for time in (trial.datetime_start, trial.datetime_complete)]
        return max((moment(time) for time in times if time is not None), default=None)

    def plain(self) -> dict[str, Any]:
        """Return the entry that `--json` prints."""
        best, last = self.best, self.last_activity
        return {
            "name": self.name,
            "state": str(self.stage),
            "pid": int(self.pid) if self.pid and self.pid.isdecimal() else None,
            "objectives": [{"name": one.name, "direction": one.direction} for one in self.objectives],
            "n_trials": self.total,
            "complete": self.count(TrialState.COMPLETE),
            "pruned": self.count(TrialState.PRUNED),
            "failed": self.count(TrialState.FAIL),
            "best": None if best is None else {"trial": best.number, "values": list(best.values)},
            "winner": self.winner,
            "front": list(self.front),
            "last_activity": None if last is None else last.isoformat(timespec="seconds"),
        }


@contextmanager
def opened(storage: str | None, directory: Path) -> Iterator[BaseStorage]:
    """Open the storage of a URL, or the one in a folder, without creating one.

    Raises RunNotFound when there is none, StoreError when it cannot be used.
    """
    url = storage or storage_url(directory)
    try:
        database = make_url(url).database
        local = make_url(url).get_backend_name() == "sqlite"
    except ArgumentError as error:
        raise StoreError(f"--storage: '{mask(url)}' is no URL; write it like sqlite:///mlruns/optuna.db") from error
    if local and not (database and Path(database).is_file()):
        raise RunNotFound(
            f"there are no studies: {database} does not exist; start one with besom sweep digits, "
            "or say where they are with --directory or --storage"
        )
    backend = open_storage(url)
    try:
        with translated(url, also=()):
            yield backend
    finally:
        backend.remove_session()


def list_studies(storage: BaseStorage, directory: Path) -> list[StudyCard]:
    """Read all studies, the one with the latest activity first; the locks in `directory` show which are running."""
    cards = [_card(storage, study, directory) for study in storage.get_all_studies()]
    return sorted(cards, key=lambda card: card.last_activity or _LONG_AGO, reverse=True)


def find_study(storage: BaseStorage, name: str, directory: Path) -> StudyCard:
    """Read one study. Raises RunNotFound, with the existing names."""
    studies = {study.study_name: study for study in storage.get_all_studies()}
    if name not in studies:
        raise RunNotFound(f"study '{name}' does not exist; {one_of(name, sorted(studies))}")
    return _card(storage, studies[name], directory)


def _card(storage: BaseStorage, study: Any, directory: Path) -> StudyCard:
    attrs = study.user_attrs
    described = attrs.get(StudyAttribute.SPEC) if isinstance(attrs.get(StudyAttribute.SPEC), dict) else {}
    names = [name for name, _ in described.get("objectives", [])]
    if len(names) != len(study.directions):
        names = (
            ["value"] if len(study.directions) == 1 else [f"value_{index}" for index in range(len(study.directions))]
        )
    folder = file_name(study.study_name)  # as SweepSpec.folder
    objectives = tuple(
        Objective(name=name, direction=direction.name.lower())
        for name, direction in zip(names, study.directions, strict=True)
    )
    return StudyCard(
        name=study.study_name,
        objectives=objectives,
        trials=tuple(storage.get_all_trials(study._study_id, deepcopy=False)),
        described=described,
        configs=configs_of(attrs),
        total=attrs.get(StudyAttribute.N_TRIALS),
        pid=holder(directory / "locks" / f"{folder}.lock") or holder_on_server(storage, study.study_name),
        winner=winning_trial(attrs, objectives[0]),
        on_top=attrs.get(StudyAttribute.FINALISTS, {}).get("overrides", {}),
    )


def table(cards: Sequence[StudyCard], *, now: datetime) -> Table:
    """Return the list as a table for the terminal."""
    listing = Table(box=None)
    for heading in ("study", "state", "trials", "best", "last activity"):
        listing.add_column(heading, no_wrap=heading in ("study", "state", "trials"))
    for card in cards:
        style = {Stage.RUNNING: "cyan", Stage.COMPLETE: "green", Stage.INTERRUPTED: "yellow"}.get(card.stage, "dim")
        state = f"{card.stage} (pid {card.pid})" if card.pid else str(card.stage)
        last = card.last_activity
        listing.add_row(
            Text(card.name, style="bold"),
            Text(state, style=style),
            _trials(card),
            Text(_best(card)),
            "·" if last is None else age(now - last),
        )
    return listing


def _trials(card: StudyCard) -> str:
    counts = ((TrialState.PRUNED, "pruned"), (TrialState.FAIL, "failed"))
    rest = ", ".join(f"{count} {word}" for state, word in counts if (count := card.count(state)))
    of_total = f"{card.over}/{card.total}" if card.total is not None else str(card.over)
    return f"{of_total} ({rest})" if rest else of_total


def _best(card: StudyCard) -> str:
    best = card.best
    if best is None:
        return "·"
    if len(card.objectives) > 1:
        return f"{len(card.front)} on the Pareto front of {', '.join(objective.name for objective in card.objectives)}"
    return f"{card.objectives[0].name} {number(best.value or 0.0, card.objectives[0].name)} (trial {best.number})"


def age(passed: timedelta) -> str:
    """Return a time span as words: `just now`, `3 minutes ago`, `2 days ago`."""
    seconds = max(0, int(passed.total_seconds()))
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {word}{'s' * (count > 1)} ago"
    return "just now"
