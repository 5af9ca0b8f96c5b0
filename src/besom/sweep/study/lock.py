"""One parent a study: a second one is refused, wherever it keeps its own files, and on whatever machine it runs."""

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

from besom.errors import StoreError
from besom.sweep.spec import SweepSpec
from besom.sweep.study.storage import translated
from besom.system.locks import Held, locked

_US = "besom: process "  # and its number, as its server shows it


class Alone:
    """A study that is held: by lock files, of which `locks` is the folder, and perhaps by its PostgreSQL server."""

    def __init__(self, locks: Path, server: _Server | None) -> None:
        self._locks = locks
        self._server = server

    @contextmanager
    def creating(self) -> Iterator[None]:
        """Hold the storage while its tables may have to be made, which two at once would tear; wait for who does so."""
        with ExitStack() as stack:
            stack.enter_context(locked(self._locks / "creating-optuna", wait=True))
            if self._server is not None:
                stack.enter_context(self._server.creating())
            yield


@contextmanager
def held_alone(spec: SweepSpec, directory: Path) -> Iterator[Alone]:
    """Hold a study whose files are kept in `directory`.

    Raises StoreError, which names the process, when another one holds it: by its files, by the file of its storage,
    which two parents may share that keep their own files in different folders, or by its PostgreSQL server.
    """
    locks = {(directory / "locks" / f"{spec.folder}.lock").resolve(): None}
    shared = _file(spec.storage)
    if shared is not None:
        name = spec.folder if shared.name == "optuna.db" else f"{shared.name}-{spec.folder}"
        locks[shared.parent / "locks" / f"{name}.lock"] = None
    with ExitStack() as stack:
        try:
            for path in locks:
                stack.enter_context(locked(path, wait=False))
            url = _url(spec.storage)
            server = None
            if url is not None and url.get_backend_name() == "postgresql":
                server = stack.enter_context(_held_on_server(url, spec.study_name))
        except Held as error:
            raise StoreError(
                f"study '{spec.study_name}' is being swept by process {error.pid}; wait for it, or stop it first"
            ) from error
        yield Alone(path.parent, server)


def holder_on_server(storage: BaseStorage, study: str) -> str | None:
    """The process that holds a study on its PostgreSQL server, and its machine; None where nobody does."""
    backend = getattr(storage, "_backend", storage)  # of one that Optuna caches
    if not isinstance(backend, RDBStorage) or backend.engine.dialect.name != "postgresql":
        return None
    with backend.engine.connect() as connection:
        return _holder(connection, _key(study))


class _Server:
    """A connection to a PostgreSQL server, which keeps locked what is locked by it for as long as it is open.

    The server closes it however the process ends, and within minutes of the end of its machine.
    """

    def __init__(self, url: URL, connection: Connection) -> None:
        self._url = url
        self._connection = connection
        settings = {"idle_session_timeout": 0, "tcp_keepalives_idle": 60, "tcp_keepalives_interval": 10}
        for name, value in settings.items():  # of which an older server has not all
            self.ask("SELECT set_config(name, :value, false) FROM pg_settings WHERE name = :name",
                     name=name, value=str(value))  # fmt: skip
        self.ask(
            "SELECT set_config('application_name', :us, false)", us=f"{_US}{os.getpid()} on {socket.gethostname()}"
        )

    def ask(self, query: str, **values: Any) -> Any:
        """Return the one value that a query gives. Raises StoreError."""
        with translated(str(self._url)):
            return self._connection.execute(text(query), values).scalar()

    def hold(self, study: str) -> None:
        """Lock a study. Raises Held when another process has."""
        key = _key(study)
        if not self.ask("SELECT pg_try_advisory_lock(:key)", key=key):
            found = _holder(self._connection, key) or "unknown"
            raise Held(f"{found}, by the advisory lock {key} of its PostgreSQL server")

    @contextmanager
    def creating(self) -> Iterator[None]:
        """Lock the making of tables, and wait for who has."""
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
    # The lock's number is shown in two halves.
    query = (
        "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
        "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND ((l.classid::bigint << 32) | l.objid::bigint) = :key"
    )
    found = connection.execute(text(query), {"key": key}).first()
    return None if found is None else str(found[0] or "unknown").removeprefix(_US)


def _key(study: str) -> int:
    """The number of a study's advisory lock: 64 bits, signed."""
    return int.from_bytes(hashlib.sha256(f"besom {study}".encode()).digest()[:8], "big", signed=True)


def _url(storage: object) -> URL | None:
    """The URL of a database, however the storage was named."""
    named = storage.get("url") if isinstance(storage, Mapping) else storage
    try:
        return make_url(named) if isinstance(named, str) else None
    except ArgumentError:
        return None  # who opens it says what is wrong


def _file(storage: object) -> Path | None:
    """The file of a SQLite database or of a journal, if a lock can be made beside it."""
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
