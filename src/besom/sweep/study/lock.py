"""The lock of a study: only one process sweeps it at a time, whatever its directory and its machine."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from besom.config.paths import file_name
from besom.errors import StoreError
from besom.sweep.study.storage import translated
from besom.system.locks import Held, locked

_APPLICATION = "besom: process "  # followed by the process id, as the server shows it


class StudyLock:
    """A locked study; `locks` is the folder of the lock files, `server` its PostgreSQL server, if it has one."""

    def __init__(self, locks: Path, server: _Server | None) -> None:
        self._locks = locks
        self._server = server

    @contextmanager
    def creating(self) -> Iterator[None]:
        """Lock the storage while its tables are created, which two processes must not do at once; wait for the lock."""
        with ExitStack() as stack:
            stack.enter_context(locked(self._locks / "creating-optuna", wait=True))
            if self._server is not None:
                stack.enter_context(self._server.creating())
            yield


@contextmanager
def lock_study(study_name: str, storage: str | Mapping[str, Any] | None, directory: Path) -> Iterator[StudyLock]:
    """Lock a study so that only one process sweeps it at a time; its files are in `directory`.

    Raises StoreError, which names the process, when another one has locked it: by a file in `directory`, by a file
    beside its storage, which processes with different directories may share, or on its PostgreSQL server.
    """
    folder = file_name(study_name)
    locks = {(directory / "locks" / f"{folder}.lock").resolve(): None}
    shared = _file(storage)
    if shared is not None:
        name = folder if shared.name == "optuna.db" else f"{shared.name}-{folder}"
        locks[shared.parent / "locks" / f"{name}.lock"] = None
    with ExitStack() as stack:
        try:
            for path in locks:
                stack.enter_context(locked(path, wait=False))
            url = _url(storage)
            server = None
            if url is not None and url.get_backend_name() == "postgresql":
                server = stack.enter_context(_held_on_server(url, study_name))
        except Held as error:
            raise StoreError(
                f"study '{study_name}' is being swept by process {error.pid}; wait for it, or stop it first"
            ) from error
        yield StudyLock(path.parent, server)


def holder_on_server(storage: BaseStorage, study: str) -> str | None:
    """Return the process, with its machine, that has locked a study on its PostgreSQL server; None if there is none."""
    backend = getattr(storage, "_backend", storage)  # of Optuna's caching storage
    if not isinstance(backend, RDBStorage) or backend.engine.dialect.name != "postgresql":
        return None
    with backend.engine.connect() as connection:
        return _holder(connection, _key(study))


class _Server:
    """A connection to a PostgreSQL server, which holds its advisory locks while it is open.

    The server closes it however the process ends, and within minutes after the machine fails.
    """

    def __init__(self, url: URL, connection: Connection) -> None:
        self._url = url
        self._connection = connection
        settings = {"idle_session_timeout": 0, "tcp_keepalives_idle": 60, "tcp_keepalives_interval": 10}
        for name, value in settings.items():  # an older server lacks some of them
            self.ask("SELECT set_config(name, :value, false) FROM pg_settings WHERE name = :name",
                     name=name, value=str(value))  # fmt: skip
        self.ask(
            "SELECT set_config('application_name', :name, false)",
            name=f"{_APPLICATION}{os.getpid()} on {socket.gethostname()}",
        )

    def ask(self, query: str, **values: Any) -> Any:
        """Return the single value of a query. Raises StoreError."""
        with translated(str(self._url)):
            return self._connection.execute(text(query), values).scalar()

    def hold(self, study: str) -> None:
        """Lock a study. Raises Held when another process has locked it."""
        key = _key(study)
        if not self.ask("SELECT pg_try_advisory_lock(:key)", key=key):
            holder = _holder(self._connection, key) or "unknown"
            raise Held(f"{holder}, by the advisory lock {key} of its PostgreSQL server")

    @contextmanager
    def creating(self) -> Iterator[None]:
        """Lock the creation of tables; wait while another process holds that lock."""
        self.ask("SELECT pg_advisory_lock(:key)", key=_key(""))
        try:
            yield
        finally:
            self.ask("SELECT pg_advisory_unlock(:key)", key=_key(""))


@contextmanager
def _held_on_server(url: URL, study: str) -> Iterator[_Server]:
    with ExitStack() as stack:
        with translated(str(url)):
            engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
            connection = stack.enter_context(engine.connect())
        server = _Server(url, connection)
        server.hold(study)
        yield server


def _holder(connection: Connection, key: int) -> str | None:
    # pg_locks has the key in two halves.
    query = (
        "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
        "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND ((l.classid::bigint << 32) | l.objid::bigint) = :key"
    )
    row = connection.execute(text(query), {"key": key}).first()
    return None if row is None else str(row[0] or "unknown").removeprefix(_APPLICATION)


def _key(study: str) -> int:
    """Return the key of a study's advisory lock: 64 bits, signed."""
    return int.from_bytes(hashlib.sha256(f"besom {study}".encode()).digest()[:8], "big", signed=True)


def _url(storage: object) -> URL | None:
    """Return the URL of the storage's database, None if it has none."""
    named = storage.get("url") if isinstance(storage, Mapping) else storage
    try:
        return make_url(named) if isinstance(named, str) else None
    except ArgumentError:
        return None  # opening the storage raises the error


def _file(storage: object) -> Path | None:
    """Return the file of a SQLite database or a journal, None if no lock file can be created beside it."""
    url = _url(storage)
    named = url.database if url is not None and url.get_backend_name() == "sqlite" else _journal(storage)
    if not named or named.startswith((":", "file:")):
        return None
    path = Path(named).resolve()
    return path if os.access(path.parent, os.W_OK) else None


def _journal(storage: object) -> str | None:
    if not isinstance(storage, Mapping):
        return None
    backend = storage.get("log_storage")
    named = backend.get("file_path") if isinstance(backend, Mapping) else None
    return named if isinstance(named, str) else None
