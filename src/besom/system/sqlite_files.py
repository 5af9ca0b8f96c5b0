"""SQLite databases as files: checkpointed, opened read-only, and replaced atomically."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

_BESIDE = ("-wal", "-shm", "-journal")  # SQLite's files next to a database that is, or was left, open
_WAIT_S = 1.0
_READ_WITHIN_S = 10.0


def complete(path: Path) -> None:
    """Checkpoint a database's write-ahead log, so that a copy of the file alone is complete.

    What another program still reads stays in the log; a database that is missing or not writable is left unchanged.
    """
    if not path.is_file():
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=_WAIT_S)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database read-only, also in a folder that is not writable."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_READ_WITHIN_S)) as database:
        yield database


@contextmanager
def replaced_atomically(path: Path) -> Iterator[Path]:
    """Yield a path next to `path` at which to create a database; it replaces `path` if the block succeeds.

    Whatever ends the process, `path` is never half-written. The caller must hold a lock, so that leftovers next to
    `path` belong to processes that have ended.
    """
    prefix = f"{path.stem}-being-made-"
    for left in path.parent.glob(f"{prefix}*"):
        left.unlink()
    beside = path.with_name(f"{prefix}{uuid.uuid4().hex}{path.suffix}")  # libraries cache paths
    yield beside
    complete(beside)
    for ending in _BESIDE:  # the old database's: SQLite would take its log for the new file's
        path.with_name(path.name + ending).unlink(missing_ok=True)
    beside.replace(path)
