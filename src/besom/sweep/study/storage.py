"""The study's storage: every trial is written when it is asked for, and again when it is over.

The study itself is in memory, where samplers and pruners read a thousand trials quickly. Only this process writes to
the storage, a few milliseconds per trial. If the process dies, only the running trials are lost, and the storage has
their parameters.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from besom.errors import StoreError
from besom.secrets.masks import mask
from besom.sweep.study.rows import TrialRows
from besom.system.sqlite_files import complete
from besom.system.store_errors import Store, Trouble, cause_of, trouble_of
from besom.system.urls import sqlite_file

optuna.logging.set_verbosity(optuna.logging.WARNING)  # Besom reports its trials itself

PATIENCE_S = 10.0  # for a database to which another program is writing


class TrialStorage:
    """A study in memory, and its storage.

    Trials with the state RUNNING in the storage belong to a process that died: they wait to be run again, with the same
    numbers and parameters. Every method raises StoreError when the storage cannot be used.
    """

    def __init__(self, storage: BaseStorage, url: str, name: str, directions: list[StudyDirection]) -> None:
        self._storage = storage
        self._url = url
        with self._translated():
            stored = optuna.create_study(
                storage=storage, study_name=name, directions=directions, load_if_exists=True, sampler=_NO_SAMPLER
            )
            self._study_id = stored._study_id
            self._release_orphans()
            trials = storage.get_all_trials(self._study_id)
        self._ids = [trial._trial_id for trial in trials]
        self._rows = TrialRows(storage, self._study_id) if isinstance(storage, RDBStorage) else None
        self._attrs: dict[int, dict[str, Any]] = {}  # the written attributes of unfinished trials
        self._memory = InMemoryStorage()
        self.study = optuna.create_study(
            storage=self._memory, study_name=name, directions=stored.directions, sampler=_NO_SAMPLER
        )
        for trial in trials:
            if not trial.state.is_finished():
                forget_attempt(trial)
                self._attrs[trial.number] = {}
            self.study.add_trial(trial)
        for key, value in storage.get_study_user_attrs(self._study_id).items():
            self.study.set_user_attr(key, value)
        self._study_attrs = dict(storage.get_study_system_attrs(self._study_id))
        for key, value in self._study_attrs.items():
            self._memory.set_study_system_attr(self.study._study_id, key, value)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Set an attribute of the study."""
        self.study.set_user_attr(key, value)
        with self._translated():
            self._storage.set_study_user_attr(self._study_id, key, value)

    def trial(self, number: int) -> FrozenTrial:
        """Return the trial with this number, as it is in memory."""
        return self.study.get_trials(deepcopy=False)[number]

    def set_times(self, number: int, began_s: float | None, ended_s: float | None) -> None:
        """Set the start and the end of a trial, in seconds since the epoch; Optuna's own are those of ask and tell."""
        trial = self.trial(number)
        if began_s is not None:
            trial.datetime_start = datetime.fromtimestamp(began_s)
        if ended_s is not None:
            trial.datetime_complete = datetime.fromtimestamp(ended_s)

    def write_asked(self, number: int) -> None:
        """Write an asked or enqueued trial with its parameters."""
        trial = self.trial(number)
        with self._translated():
            if number == len(self._ids):
                add = self._rows.add if self._rows else self._add
                self._ids.append(add(trial))
                self._attrs[number] = _attrs(trial)
            elif self._rows:
                self._rows.rewrite(self._ids[number], trial)
            else:
                self._complete_params(trial)
                self._write_attrs(trial)
                self._storage.set_trial_state_values(self._ids[number], trial.state)
            self._write_study_attrs()

    def write_finished(self, number: int) -> None:
        """Write a finished trial."""
        trial, trial_id = self.trial(number), self._ids[number]
        with self._translated():
            if self._rows:
                self._rows.rewrite(trial_id, trial)
            else:
                for step, value in sorted(trial.intermediate_values.items()):
                    self._storage.set_trial_intermediate_value(trial_id, step, value)
                self._write_attrs(trial)
                self._storage.set_trial_state_values(trial_id, trial.state, trial.values)
            self._write_study_attrs()
        del self._attrs[number]

    def write_waiting(self, number: int) -> None:
        """Write that a trial waits to be run again."""
        with self._translated():
            self._storage.set_trial_state_values(self._ids[number], TrialState.WAITING)

    def close(self) -> None:
        """Close the storage; for SQLite, the write-ahead log is merged into the database file."""
        self._storage.remove_session()
        if isinstance(self._storage, RDBStorage):
            self._storage.engine.dispose()
            if (path := sqlite_file(self._url)) is not None:
                complete(path)

    def _release_orphans(self) -> None:
        for trial in self._storage.get_all_trials(self._study_id, states=(TrialState.RUNNING,)):
            self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    # Storages other than databases are written value by value.

    def _add(self, trial: FrozenTrial) -> int:
        return self._storage.create_new_trial(self._study_id, template_trial=trial)

    def _complete_params(self, trial: FrozenTrial) -> None:
        stored = self._storage.get_trial(self._ids[trial.number])
        for name, distribution in trial.distributions.items():
            if name not in stored.distributions:
                value = distribution.to_internal_repr(trial.params[name])
                self._storage.set_trial_param(stored._trial_id, name, value, distribution)

    def _write_attrs(self, trial: FrozenTrial) -> None:
        trial_id, written, now = self._ids[trial.number], self._attrs[trial.number], _attrs(trial)
        for key, value in now.items():
            if key not in written or written[key] != value:
                kind, _, name = key.partition(":")
                setter = self._storage.set_trial_user_attr if kind == "user" else self._storage.set_trial_system_attr
                setter(trial_id, name, value)
        self._attrs[trial.number] = now

    def _write_study_attrs(self) -> None:
        # A sampler's state for the whole study, such as the generations of NSGA-II.
        now = self._memory.get_study_system_attrs(self.study._study_id)
        for key, value in now.items():
            if key not in self._study_attrs or self._study_attrs[key] != value:
                self._storage.set_study_system_attr(self._study_id, key, value)
        self._study_attrs = dict(now)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(self._url):
            yield


_NO_SAMPLER = optuna.samplers.RandomSampler()


def forget_attempt(trial: FrozenTrial) -> None:
    """Remove the results of an attempt from a trial that will be run again.

    Otherwise a pruner would see later steps, and Optuna would not allow setting the steps and constraints again.
    """
    trial.intermediate_values = {}
    of_the_attempt = ("completed_rung_", "constraints")
    kept = {key: value for key, value in trial.system_attrs.items() if not key.startswith(of_the_attempt)}
    trial.system_attrs = kept


def _attrs(trial: FrozenTrial) -> dict[str, Any]:
    user = {f"user:{key}": value for key, value in trial.user_attrs.items()}
    return {**user, **{f"system:{key}": value for key, value in trial.system_attrs.items()}}


def open_storage(storage: str | Mapping[str, Any], *, patience_s: float = PATIENCE_S) -> BaseStorage:
    """Open a storage by its URL, or by a `_target_` such as optuna.storages.JournalStorage.

    Raises StoreError when it cannot be used: a database that is corrupt, locked for longer than `patience_s`, or not a
    database at all. The file is left unchanged.
    """
    if not isinstance(storage, str):
        return _instantiated(storage)
    with translated(storage, patience_s=patience_s):
        local = make_url(storage).get_backend_name() == "sqlite"
        path = sqlite_file(storage)
        if path is not None and path.exists():
            _check_whole(path, patience_s=patience_s)
        try:
            opened = RDBStorage(storage, engine_kwargs={"connect_args": {"timeout": patience_s}} if local else None)
        except (KeyError, IndexError) as error:
            raise StoreError(f"{mask(storage)}: Optuna formats it; write a brace of its own as %7B or %7D") from error
        if local:
            # WAL: readers such as a dashboard block no writes, and no write waits for the disk; a crash loses nothing.
            opened.engine.dispose()
            event.listen(opened.engine, "connect", _write_ahead)
        return opened


@contextmanager
def translated(
    url: str, *, patience_s: float = PATIENCE_S, also: tuple[type[Exception], ...] = (ImportError, OSError, ValueError)
) -> Iterator[None]:
    """Convert exceptions of Optuna and its database to a StoreError of one line.

    `also` are further exceptions that the storage can raise; use them only where no other code runs in the block.
    """
    kinds: tuple[type[Exception], ...] = (*_OF_A_DATABASE, *also)
    try:
        yield
    except kinds as error:
        raise _store(url, patience_s).error(error) from error
    except RuntimeError as error:  # Optuna raises it for a schema of another version
        if trouble_of(error) is not Trouble.OTHER_SCHEMA:
            raise
        raise _store(url, patience_s).error(error) from error


_OF_A_DATABASE: tuple[type[Exception], ...] = (
    optuna.exceptions.StorageInternalError,
    SQLAlchemyError,
    sqlite3.Error,
)


def _store(url: str, patience_s: float) -> Store:
    choose = "hydra.sweeper.storage or --storage"
    return Store(where=url, role="the study's storage", choose=choose, locked_s=patience_s)


def _instantiated(node: Mapping[str, Any]) -> BaseStorage:
    from hydra.errors import InstantiationException

    from besom.config.hydra_versions import build

    try:
        storage = build(dict(node))
    except InstantiationException as error:
        raise StoreError(f"hydra.sweeper.storage: {cause_of(error)}; see Optuna's page on storages") from error
    if not isinstance(storage, BaseStorage):
        storage = optuna.storages.get_storage(storage)
    return storage


def _check_whole(path: Path, *, patience_s: float) -> None:
    where = path.resolve().as_uri()
    try:
        # Read-only: otherwise SQLite would write the log of a dead process into a corrupt file.
        result = _quick_check(f"{where}?mode=ro", patience_s)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
            raise
        result = _quick_check(where, patience_s)  # an interrupted write must be rolled back before reading
    if result != "ok":
        raise StoreError(
            f"{path}: is torn ({result.splitlines()[-1]}); it was left as it is: get back what is in it with sqlite3's "
            ".recover, or choose another with hydra.sweeper.storage",
            trouble=Trouble.DAMAGED,
        )


def _quick_check(uri: str, patience_s: float) -> str:
    with closing(sqlite3.connect(uri, uri=True, timeout=patience_s)) as database:
        return str(database.execute("PRAGMA quick_check(1)").fetchone()[0])


def _write_ahead(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
