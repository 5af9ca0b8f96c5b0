"""What a finished trial leaves running in its process, or breaks in it, so that only a new process is without it.

Threads and processes that a library keeps for its next use are none of this.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from besom.config.paths import installed_folders
from besom.secrets.masks import without_secrets

_GRACE_S = 5.0
"""Seconds in which threads and processes may end that are about to, such as those that load data."""

_KEPT = re.compile(r"multiprocessing.(resource_tracker|forkserver)|joblib.externals.loky|torch/_inductor|wandb")
"""The command lines of processes that libraries start once and use again."""


class Leftovers:
    """The threads and child processes that are new since now."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._children = set(_children())
        self._installed = tuple(map(str, installed_folders()))

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Count what a `with` block starts as there from the beginning."""
        threads, children = set(threading.enumerate()), set(_children())
        try:
            yield
        finally:
            self._threads |= set(threading.enumerate()) - threads
            self._children |= set(_children()) - children

    def describe(self, *, failed: bool) -> str | None:
        """Return what a trial left, None if it is nothing; wait some seconds for what is about to end."""
        return self._going_on() or _process_group() or (_broken_device() if failed else None)

    def _going_on(self) -> str | None:
        found = self._new()
        if found is not None:
            gc.collect()  # ends the processes of a DataLoader that nothing uses any more
        until = time.monotonic() + _GRACE_S
        while found is not None and time.monotonic() < until:
            time.sleep(0.02)
            found = self._new()
        return found

    def _new(self) -> str | None:
        for child in _children():
            if child not in self._children and not _KEPT.search(command := _command(child)):
                return f"a process that goes on (pid {child}: {without_secrets(command)})"
        frames = sys._current_frames()
        for thread in threading.enumerate():
            frame = frames.get(thread.ident or 0)
            if thread in self._threads or not thread.is_alive() or frame is None:
                continue
            files, idle = [], frame.f_code.co_name == "_worker" and "concurrent" in frame.f_code.co_filename
            while frame is not None:
                files.append(frame.f_code.co_filename)
                frame = frame.f_back
            if not (thread.daemon or idle) or any(map(self._is_users, files)):
                return f"a thread that goes on ({thread.name})"
        return None

    def _is_users(self, file: str) -> bool:
        return not file.startswith("<") and not os.path.realpath(file).startswith(self._installed)


def _children() -> list[int]:
    """Return the living child processes; none without /proc."""
    found = []
    for file in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread has just ended
            found += [int(pid) for pid in file.read_text(encoding="ascii").split() if _command(int(pid))]
    return found


def _command(pid: int) -> str:
    """Return the command line of a process; "" for one that has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _process_group() -> str | None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or "BESOM_RANKS" in os.environ or not distributed.is_available():
        return None  # the ranks of a slot keep theirs
    return "a process group of torch.distributed" if distributed.is_initialized() else None


def _broken_device() -> str | None:
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_initialized():
        try:
            cuda.synchronize()
        except RuntimeError as error:
            return f"a CUDA context that failed ({str(error).splitlines()[0]})"
    return None
