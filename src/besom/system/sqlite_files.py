"""SQLite databases as files: complete in themselves, and made whole or not at all."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

_BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database that is open, or was left open
_WAIT_S = 1.0
_READ_WITHIN_S = 10.0


def complete(path: Path) -> None:
    """Write what lies in a database's log into its file, so that a copy of the file alone holds everything.

    What another program still reads stays in the log; a database that is not there, or cannot be written, is left.
    """
    if not path.is_file():
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=_WAIT_S)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that nothing is written to, also where its folder cannot be."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_READ_WITHIN_S)) as database:
        yield database


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` at which to make a database; it takes the place of `path` if the block succeeds.

    Whatever ends the process, there is no half of it at `path`. Who calls this holds a lock, so that what lies beside
    `path` from before is of a process that ended.
    """
    being_made = f"{path.stem}-being-made-"
    for left in path.parent.glob(f"{being_made}*"):
        left.unlink()
    beside = path.with_name(f"{being_made}{uuid.uuid4().hex}{path.suffix}")  # libraries remember a path that they know
    yield beside
    complete(beside)
    for ending in _BESIDE:  # of what was there before: SQLite would take its log for that of the new file
        path.with_name(path.name + ending).unlink(missing_ok=True)
    beside.replace(path)
