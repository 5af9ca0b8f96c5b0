"""One parent a study: a second one is refused, wherever it keeps its own files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from besom.errors import StoreError
from besom.locks import Held, locked
from besom.sweep.spec import SweepSpec


@contextmanager
def held_alone(spec: SweepSpec, directory: Path) -> Iterator[Path]:
    """Hold a study whose files are kept in `directory`; yield the folder of the locks that its storage shares.

    Raises StoreError, which names the process, when another one holds it: by its files, or by its SQLite database,
    which two parents may share that keep their files in different folders.
    """
    locks = {(directory / "locks" / f"{spec.folder}.lock").resolve(): None}
    database = _database(spec.storage)
    if database is not None:
        name = spec.folder if database.name == "optuna.db" else f"{database.name}-{spec.folder}"
        locks[database.parent / "locks" / f"{name}.lock"] = None
    with ExitStack() as stack:
        try:
            for path in locks:
                stack.enter_context(locked(path, wait=False))
        except Held as error:
            raise StoreError(
                f"study '{spec.study_name}' is being swept by process {error.pid}; wait for it, or stop it first"
            ) from error
        yield path.parent


def _database(storage: object) -> Path | None:
    """The file of a SQLite database that was named by its URL, if a lock can be made beside it."""
    try:
        url = make_url(storage) if isinstance(storage, str) else None
    except ArgumentError:
        return None  # who opens it says what is wrong
    if url is None or url.get_backend_name() != "sqlite" or not url.database or url.database.startswith((":", "file:")):
        return None
    path = Path(url.database).resolve()
    return path if os.access(path.parent, os.W_OK) else None
