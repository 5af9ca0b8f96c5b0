"""Opening the MLflow store: SQLite under mlruns/, or the tracking server of a URI."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from besom.errors import StoreError
from besom.secrets.masks import mask
from besom.system.locks import locked
from besom.system.sqlite_files import replaced_atomically
from besom.system.store_errors import Store, Trouble, trouble_of
from besom.system.urls import sqlite_file, sqlite_url
from besom.tracking.places import LOCKED_S, folder_of, settle
from besom.tracking.writers.revisions import revision_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

# These must be set before the first import of mlflow, anywhere.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines per run, with a server


REACHABLE_S = 10.0
_STALE_S = 5.0  # after which nobody is still creating an incomplete database
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True, kw_only=True)
class Location:
    """The store where runs are recorded: MLflow's tracking `uri`, and the `directory` of a local store's files."""

    uri: str
    directory: Path

    @classmethod
    def of(cls, tracking: Mapping[str, Any]) -> Location:
        """Read the config group `tracking`."""
        directory = Path(tracking["directory"]).absolute()
        local = local_uri(directory)
        uri = tracking["uri"] or local
        if uri != local and (file := sqlite_file(uri)) and file.resolve() == (directory / "mlflow.db").resolve():
            uri = local  # the same file, spelled differently
        return cls(uri=uri, directory=directory)

    @classmethod
    def default(cls) -> Location:
        """Return the location that `besom ui` and `besom reproduce` use: MLFLOW_TRACKING_URI, or mlruns/ here."""
        return cls.of({"uri": os.environ.get("MLFLOW_TRACKING_URI"), "directory": "mlruns"})

    @property
    def is_local(self) -> bool:
        """True if the store is Besom's own SQLite file under `directory`."""
        return self.uri == local_uri(self.directory)

    @property
    def ui(self) -> str:
        """The URL of the MLflow UI: the tracking server, without credentials, or `besom ui` on its default port."""
        parts = urlsplit(self.uri)
        if parts.scheme not in ("http", "https"):
            return "http://127.0.0.1:5000"
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")

    @property
    def store(self) -> Store:
        """The store as error messages name it."""
        return Store(
            where=self.uri, role="the tracking store", choose="tracking.uri, MLFLOW_TRACKING_URI or tracking.directory",
            locked_s=LOCKED_S,
        )  # fmt: skip

    @property
    def database(self) -> Path:
        """The SQLite file of a local store."""
        return self.directory / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """The folder of a local store's artifacts."""
        return self.directory / "artifacts"

    def prepare(self) -> None:
        """Create the folder, so that a store that is not writable fails before anything has started.

        Raises StoreError.
        """
        name = os.fsencode(self.directory).decode("utf-8", "backslashreplace")
        if self.is_local and name != str(self.directory):
            raise StoreError(f"{name}: MLflow takes no folder whose name is not UTF-8; rename it")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(prefix=".probe-", dir=self.directory):
                pass  # a unique name: several recorders may check at the same time
        except OSError as error:
            remedy = "make room there" if trouble_of(error) is Trouble.FULL else "make it writable"
            raise StoreError(
                f"{self.directory}: cannot be written ({error.strerror}); {remedy}, "
                "or choose another with tracking.directory=PATH"
            ) from error
        if self.is_local and self.database.exists():
            _check_sqlite(self)
        check_reachable(self)


def local_uri(directory: Path) -> str:
    """Return the URI of the SQLite store in a folder; absolute, because MLflow and Hydra may change directory."""
    return sqlite_url(directory / "mlflow.db")


def _check_sqlite(location: Location) -> None:
    try:
        with closing(sqlite3.connect(location.database)) as database:
            database.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        raise location.store.error(error) from error


def check_reachable(location: Location, *, within_s: float = REACHABLE_S) -> None:
    """Connect to the host and port of a server or database. Raises StoreError, mostly at once, if nothing answers."""
    # MLflow itself would retry for minutes, for a server as for a database.
    parts = urlsplit(location.uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme not in _PORTS or parts.hostname is None or scheme in getproxies():
        return
    try:
        socket.create_connection((parts.hostname, parts.port or _PORTS[scheme]), timeout=within_s).close()
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{mask(location.uri)}: no tracking server answers there ({getattr(error, 'strerror', None) or error}); "
            "start it, or check tracking.uri and MLFLOW_TRACKING_URI",
            trouble=Trouble.UNREACHABLE,
        ) from error


def connect(location: Location, *, create: bool = True) -> MlflowClient:
    """Open the store; a local one is created on first use, in WAL mode. Takes seconds the first time.

    Raises StoreError when it cannot be opened or, without `create`, does not exist.
    """
    if location.is_local:
        if not create and not location.database.exists():
            raise StoreError(f"{location.database}: there is nothing recorded yet; start with: besom train")
        location.prepare()
    check_reachable(location)
    with translated(location):
        import mlflow  # noqa: F401  (it sets its own logging levels)

    for name in ("mlflow", "alembic"):  # forty migrations on first use, waiting for a model version
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # a StoreError reports the same
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # retries are expected
    from mlflow import MlflowClient

    with translated(location), _creating(location), revision_errors(location.uri):
        client = MlflowClient(tracking_uri=location.uri)
        client.search_experiments(max_results=1)
    return client


@contextmanager
def _creating(location: Location) -> Iterator[None]:
    """Lock a local store while it may have to be created: two processes that create it at once would corrupt it."""
    if not location.is_local:
        file = sqlite_file(location.uri)
        if file is not None and file.name == location.database.name and file.is_file():
            _settle(file)
        yield
        return
    with locked(location.directory / "locks" / "creating-mlflow", wait=True):
        if not location.database.exists() or _is_incomplete(location.database):
            _create(location)
        _settle(location.database)
        yield
        with closing(sqlite3.connect(location.database)) as database:
            database.execute("PRAGMA journal_mode=WAL")


def _settle(database: Path) -> None:
    """Correct the artifact locations of a database that was moved or copied, and print a note."""
    if note := settle(database):
        sys.stderr.write(f"besom: note: {note}\n")


def _create(location: Location) -> None:
    """Create the database under a temporary name: it takes seconds, and an interruption must not leave half of it."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with replaced_atomically(location.database) as beside:
        # With the artifact root: MLflow's default is the current folder, whose name it puts into SQL unescaped.
        store = SqlAlchemyStore(sqlite_url(beside), location.artifacts.as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()  # it would keep the file open under the temporary name


def _is_incomplete(path: Path) -> bool:
    """Return whether the process that created a database died before the end: not even the default experiment exists.

    Waits for a process that may still be creating it.
    """
    while not _has_experiment(path):
        if time.time() - path.stat().st_mtime > _STALE_S:
            return True
        time.sleep(0.1)
    return False


def _has_experiment(path: Path) -> bool:
    with closing(sqlite3.connect(path, timeout=LOCKED_S)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        has_tables = {"experiments", "alembic_version"} <= tables

        return has_tables and database.execute("SELECT 1 FROM experiments").fetchone() is not None


@contextmanager
def translated(location: Location) -> Iterator[None]:
    """Translate exceptions of MLflow and its database into a StoreError of one line."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, ImportError, OSError) as error:
        raise location.store.error(error) from error


def experiment_id(client: MlflowClient, location: Location, name: str) -> str:
    """Return the id of the MLflow experiment of that name, creating it if need be.

    Raises StoreError when it was deleted: MLflow keeps the name.
    """
    with translated(location):
        found = client.get_experiment_by_name(name)
        if found is None:
            artifacts = (location.artifacts / folder_of(name)).as_uri() if location.is_local else None
            return str(client.create_experiment(name, artifact_location=artifacts))
    if found.lifecycle_stage != "active":
        raise StoreError(
            f"experiment '{name}' was deleted in MLflow; restore it with: mlflow experiments restore "
            f"--experiment-id {found.experiment_id}, or choose another with tracking.experiment=NAME"
        )
    return str(found.experiment_id)
