"""The locations of artifacts in a local store, which are beside its database, wherever that was moved or copied.

MLflow stores them as absolute URLs, which go wrong when a project is moved, and point into the original when it is
copied. They are corrected once, before the store is used.
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
"""The time that MLflow waits for a SQLite database that another program is writing to."""

_NAME_MAX = 200  # bytes of a folder's name
_EXPERIMENTS = ("experiments", "artifact_location")
_KEPT = (("runs", "artifact_uri"), ("logged_models", "artifact_location"))  # entities with files of their own
_COLUMNS = (_EXPERIMENTS, *_KEPT, ("model_versions", "source"), ("model_versions", "storage_location"))


def recording_lock(directory: Path) -> Path:
    """Return the lock file that every recorder into a folder's store holds: no location changes meanwhile."""
    return directory / "locks" / "recording-mlflow"


def settle(database: Path) -> str | None:
    """Correct the artifact locations in a store; return a message for the user if any was wrong.

    Files of a run or a model that exist only at the old location are copied from there. Locations that no store in
    another folder can have made are left alone: a user has chosen them.

    Raises StoreError when the store is being recorded into, OSError and sqlite3.Error when it cannot be written.
    """
    home = database.parent
    with closing(sqlite3.connect(database, timeout=LOCKED_S)) as connection:
        if not any(_former_roots(connection, home)):
            return None
        with locked(home / "locks" / "moving-mlflow", wait=True):
            roots = list(dict.fromkeys(_former_roots(connection, home)))
            if not roots:
                return None  # another process was faster
            shown = ", ".join(map(str, roots))
            try:
                with locked(recording_lock(home), wait=False), connection:
                    copied = sum(_move(connection, root, home) for root in roots)
            except Held as error:
                raise StoreError(
                    f"{database}: its artifacts are looked for under {shown}, and process {error.pid} records into it; "
                    "run the same command again once that has ended"
                ) from error
    added = f"; of {copied} of them the files were there alone, and were copied" if copied else ""
    return f"{database}: its artifacts are looked for beside it now, no more under {shown}{added}"


def file_of(place: str) -> Path | None:
    """Return the path of an artifact location; None if it is not in the file system."""
    if place.startswith("file:"):
        return Path(unquote(urlsplit(place).path))
    return Path(place) if place.startswith("/") else None


def folder_of(experiment: str) -> str:
    """Return the name of an experiment's artifact folder."""
    plain = experiment.replace("/", "_")
    return file_name(experiment) if plain in (".", "..") or len(plain.encode()) > _NAME_MAX else plain


def _former_roots(connection: sqlite3.Connection, home: Path) -> Iterator[Path]:
    """Yield the folders of other stores that the artifact locations of this store's experiments point into."""
    for number, name, place in connection.execute("SELECT experiment_id, name, artifact_location FROM experiments"):
        path = file_of(place or "")
        if path is None:
            continue
        if path.parent.name == "artifacts" and path.name in (str(number), folder_of(name)):
            root = path.parent.parent
        elif number == 0 and path.name == "0":  # MLflow's default: below the folder that it ran in
            root = path.parent
        else:
            continue
        moved = not root.exists() or (root / "mlflow.db").exists() or (home / path.relative_to(root)).exists()
        if moved and root.resolve() != home.resolve():
            yield root


def _move(connection: sqlite3.Connection, root: Path, home: Path) -> int:
    """Rewrite the locations under `root` to be under `home`; return for how many the files were copied."""
    copied = 0
    for table, column in _COLUMNS:
        if column not in {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}:
            continue  # another version of MLflow
        for row, place in connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall():
            path = file_of(place or "")
            if path is None or not path.is_relative_to(root):
                continue
            here = home / path.relative_to(root)
            copied += (table, column) in _KEPT and _copied(path, here)
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (here.as_uri(), row))
    return copied


def _copied(source: Path, target: Path) -> bool:
    """Copy a folder unless the target exists; return whether it was copied."""
    if target.exists() or not source.is_dir():
        return False
    unfinished = target.with_name(f"{target.name}-being-copied")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(source, unfinished)
    unfinished.rename(target)
    return True
