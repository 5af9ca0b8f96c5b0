"""Opening the MLflow store: SQLite under mlruns/, or the server that a URI names."""

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
from besom.system.sqlite_files import made_whole
from besom.system.store_errors import Store, Trouble, trouble_of
from besom.system.urls import sqlite_file, sqlite_url
from besom.tracking.places import LOCKED_S, folder_of, settle
from besom.tracking.writers.revisions import told_of_revision

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Before mlflow is imported, wherever that happens first.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run, on a server


REACHABLE_S = 10.0
_SETTLED_S = 5.0  # after which nobody is at work on a database that is half made
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where runs are recorded: `uri` as MLflow takes it, `directory` for a local store's files."""

    uri: str
    directory: Path

    @classmethod
    def of(cls, tracking: Mapping[str, Any]) -> Location:
        """Read the config group `tracking`."""
        directory = Path(tracking["directory"]).absolute()
        local = local_uri(directory)
        uri = tracking["uri"] or local
        if uri != local and (file := sqlite_file(uri)) and file.resolve() == (directory / "mlflow.db").resolve():
            uri = local  # however it was written
        return cls(uri=uri, directory=directory)

    @classmethod
    def default(cls) -> Location:
        """Where `besom ui` and `besom reproduce` look: MLFLOW_TRACKING_URI, or mlruns/ in the current folder."""
        return cls.of({"uri": os.environ.get("MLFLOW_TRACKING_URI"), "directory": "mlruns"})

    @property
    def is_local(self) -> bool:
        """Whether the store is Besom's own SQLite file under `directory`."""
        return self.uri == local_uri(self.directory)

    @property
    def ui(self) -> str:
        """Where the MLflow UI answers: the tracking server, without a password, or `besom ui` on its usual port."""
        parts = urlsplit(self.uri)
        if parts.scheme not in ("http", "https"):
            return "http://127.0.0.1:5000"
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")

    @property
    def store(self) -> Store:
        """The store as its errors name it."""
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
        """Make the folder, so that a store that cannot be written fails before anything has started.

        Raises StoreError.
        """
        name = os.fsencode(self.directory).decode("utf-8", "backslashreplace")
        if self.is_local and name != str(self.directory):
            raise StoreError(f"{name}: MLflow takes no folder whose name is not UTF-8; rename it")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(prefix=".probe-", dir=self.directory):
                pass  # a name of its own: several recorders may look at once
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
    """The URI of the SQLite store under a folder; absolute, because MLflow and Hydra may change directory."""
    return sqlite_url(directory / "mlflow.db")


def _check_sqlite(location: Location) -> None:
    try:
        with closing(sqlite3.connect(location.database)) as database:
            database.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        raise location.store.error(error) from error


def check_reachable(location: Location, *, within_s: float = REACHABLE_S) -> None:
    """Ask whether anybody answers where a server is to be. Raises StoreError, at once in most cases, if not."""
    # MLflow by itself tries a server that is not there for minutes, and so it does with a database.
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
    """Open the store; a local one is created on first use, in write-ahead mode. Takes seconds the first time.

    Raises StoreError when it cannot be opened or, without `create`, is not there.
    """
    if location.is_local:
        if not create and not location.database.exists():
            raise StoreError(f"{location.database}: there is nothing recorded yet; start with: besom train")
        location.prepare()
    check_reachable(location)
    with translated(location):
        import mlflow  # noqa: F401  (it sets its own levels of logging)

    for name in ("mlflow", "alembic"):  # of forty migrations on the first use, of waiting for a model's version
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it prints, a StoreError says
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # that it tries again: so it does
    from mlflow import MlflowClient

    with translated(location), _creating(location), told_of_revision(location.uri):
        client = MlflowClient(tracking_uri=location.uri)
        client.search_experiments(max_results=1)
    return client


@contextmanager
def _creating(location: Location) -> Iterator[None]:
    """Hold a local store while it may have to be created: two processes that create it at once tear it."""
    if not location.is_local:
        file = sqlite_file(location.uri)
        if file is not None and file.name == location.database.name and file.is_file():
            _settle(file)
        yield
        return
    with locked(location.directory / "locks" / "creating-mlflow", wait=True):
        if not location.database.exists() or _is_half_made(location.database):
            _create(location)
        _settle(location.database)
        yield
        with closing(sqlite3.connect(location.database)) as database:
            database.execute("PRAGMA journal_mode=WAL")


def _settle(database: Path) -> None:
    """Let the places of artifacts lie beside a database that was moved or copied, and say so."""
    if told := settle(database):
        sys.stderr.write(f"besom: note: {told}\n")


def _create(location: Location) -> None:
    """Let MLflow make the database, which takes seconds, beside its place: what ends meanwhile leaves no half of it."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with made_whole(location.database) as beside:
        # Told where the artifacts go: by itself MLflow takes the current folder, and writes its name into SQL as text.
        store = SqlAlchemyStore(sqlite_url(beside), location.artifacts.as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()  # or it would keep the file open under its first name


def _is_half_made(path: Path) -> bool:
    """Whether a program that made a database ended before it was through: there is no experiment, not even the first.

    One that may still be at work on it is waited for.
    """
    while not _has_experiment(path):
        if time.time() - path.stat().st_mtime > _SETTLED_S:
            return True
        time.sleep(0.1)
    return False


def _has_experiment(path: Path) -> bool:
    with closing(sqlite3.connect(path, timeout=LOCKED_S)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        made = {"experiments", "alembic_version"} <= tables
        return made and database.execute("SELECT 1 FROM experiments").fetchone() is not None


@contextmanager
def translated(location: Location) -> Iterator[None]:
    """Turn what MLflow and its database raise into a StoreError of one line."""
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
