"""Locks between processes: lock files that are released however their holder ends, and folders that end with it."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = ".lock"


class Held(Exception):
    """Another process holds the lock; `pid` is its process id, if known."""

    def __init__(self, pid: str) -> None:
        super().__init__(pid)
        self.pid = pid


@contextmanager
def locked(path: Path, *, wait: bool, share: bool = False) -> Iterator[None]:
    """Hold the lock file at `path`, with this process's id in it; with `share`, together with other sharing processes.

    Without `wait`, raises Held if another process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if share else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            file.seek(0)
            raise Held(file.read().strip() or "unknown") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def holder(path: Path) -> str | None:
    """Return the id of the process that holds the lock file at `path`, or None if none does.

    It acquires a shared lock for a moment.
    """
    try:
        with path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "unknown"
    except FileNotFoundError:
        pass
    return None


@contextmanager
def own_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Return a new folder in `parent` that is removed at the end; those of killed processes are removed before."""
    for lock in parent.glob(f"{prefix}*{_LOCK}"):
        with suppress(Held), locked(lock, wait=False):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
    folder = parent / f"{prefix}{uuid.uuid4().hex[:12]}"
    lock = folder.with_suffix(_LOCK)
    with locked(lock, wait=True):
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)
