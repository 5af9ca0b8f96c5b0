"""The memory of trials that are over. What lies in a reference cycle stays until Python's collector comes, which counts
objects, not bytes: a few trials of a large model may fill a device before it does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

SHARE = 0.1
"""By which share of what it took after its first trial a worker's memory may grow before it is collected."""


def used() -> int:
    """How many bytes this process has in memory, and on its GPU; 0 for what cannot be told."""
    resident = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    on_device = cuda.memory_allocated() if cuda is not None and cuda.is_initialized() else 0
    return resident + int(on_device)


class Memory:
    """Collects what trials have left once that has grown to a share of what the worker takes."""

    def __init__(self, *, used: Callable[[], int] = used, collect: Callable[[], object] = gc.collect) -> None:
        self._used = used
        self._collect = collect
        self._usual: int | None = None

    def trial_over(self) -> None:
        """Look how much there is now, and collect what was left if that is too much."""
        now = self._used()
        if self._usual is None:
            self._usual = now  # what the first trial left is in it: most workers need no collection at all
        elif now > (1 + SHARE) * self._usual:
            self._collect()
            self._usual = self._used()  # what is still there is in use: it is not looked through again and again
