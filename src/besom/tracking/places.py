"""The places of artifacts in a local store, which lie beside its database wherever that was moved or copied to.

MLflow writes them down as absolute URLs, so that those of a project that was moved lead to where it was, and those of
a copy into the original: they are set right before the store is used, once.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from besom.config.paths import file_name
from besom.errors import StoreError
from besom.system.locks import Held, locked

LOCKED_S = 20.0
"""How long MLflow waits for a SQLite database that another program writes to."""

_LONGEST = 200  # bytes of a folder's name
_EXPERIMENTS = ("experiments", "artifact_location")
_KEPT = (("runs", "artifact_uri"), ("logged_models", "artifact_location"))  # what has files of its own
_COLUMNS = (_EXPERIMENTS, *_KEPT, ("model_versions", "source"), ("model_versions", "storage_location"))


def recording_lock(directory: Path) -> Path:
    """The lock file that all hold who record into the store of a folder: its places stay as they are meanwhile."""
    return directory / "locks" / "recording-mlflow"


def settle(database: Path) -> str | None:
    """Let the places in a store lead beside its database; return what there is to tell if any did not.

    What another place alone has of a run or a model is copied from there. Places that no store under another folder
    can have made are left: somebody has chosen them.

    Raises StoreError when the store is being recorded into, OSError and sqlite3.Error when it cannot be written.
    """
    home = database.parent
    with closing(sqlite3.connect(database, timeout=LOCKED_S)) as connection:
        if not any(_former(connection, home)):
            return None
        with locked(home / "locks" / "moving-mlflow", wait=True):
            former = list(dict.fromkeys(_former(connection, home)))
            if not former:
                return None  # another process was faster
            told = ", ".join(map(str, former))
            try:
                with locked(recording_lock(home), wait=False), connection:
                    copied = sum(_move(connection, root, home) for root in former)
            except Held as error:
                raise StoreError(
                    f"{database}: its artifacts are looked for under {told}, and process {error.pid} records into it; "
                    "run the same command again once that has ended"
                ) from error
    added = f"; of {copied} of them the files were there alone, and were copied" if copied else ""
    return f"{database}: its artifacts are looked for beside it now, no more under {told}{added}"


def file_of(place: str) -> Path | None:
    """Return the path that a place of artifacts names; None where it is not in the file system."""
    if place.startswith("file:"):
        return Path(unquote(urlsplit(place).path))
    return Path(place) if place.startswith("/") else None


def folder_of(experiment: str) -> str:
    """Return the name of an experiment's folder."""
    plain = experiment.replace("/", "_")
    return file_name(experiment) if plain in (".", "..") or len(plain.encode()) > _LONGEST else plain


def _former(connection: sqlite3.Connection, home: Path) -> Iterator[Path]:
    """Yield the folders of other stores under which this one's experiments have their artifacts."""
    for number, name, place in connection.execute("SELECT experiment_id, name, artifact_location FROM experiments"):
        path = file_of(place or "")
        if path is None:
            continue
        if path.parent.name == "artifacts" and path.name in (str(number), folder_of(name)):
            root = path.parent.parent
        elif number == 0 and path.name == "0":  # MLflow's own choice: under a folder beside the one that it ran in
            root = path.parent
        else:
            continue
        moved = not root.exists() or (root / "mlflow.db").exists() or (home / path.relative_to(root)).exists()
        if moved and root.resolve() != home.resolve():
            yield root


def _move(connection: sqlite3.Connection, root: Path, home: Path) -> int:
    """Rewrite the places under one folder to lie under another one; return of how many the files were copied."""
    copied = 0
    for table, column in _COLUMNS:
        if column not in {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}:
            continue  # in another MLflow
        for row, place in connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall():
            path = file_of(place or "")
            if path is None or not path.is_relative_to(root):
                continue
            here = home / path.relative_to(root)
            copied += (table, column) in _KEPT and _bring(path, here)
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (here.as_uri(), row))
    return copied


def _bring(there: Path, here: Path) -> bool:
    """Copy a folder that is not here; return whether that was needed."""
    if here.exists() or not there.is_dir():
        return False
    beside = here.with_name(f"{here.name}-being-copied")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(there, beside)
    beside.rename(here)
    return True
