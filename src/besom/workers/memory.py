"""The memory that finished trials leave behind.

Objects in reference cycles stay until Python's garbage collector runs, which counts objects, not bytes: a few trials of
a large model can fill a device before that.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

_SHARE = 0.1
"""The share by which a worker's memory may grow, relative to that after its last collection, before the next one."""


def used() -> int:
    """Return the bytes that this process uses in memory and on its GPU; an unknown part counts as 0."""
    resident = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    on_device = cuda.memory_allocated() if cuda is not None and cuda.is_initialized() else 0
    return resident + int(on_device)


class Memory:
    """Runs the garbage collector once the memory of finished trials has grown to a share of the worker's.

    It runs after the first trial too, and with `always` after each.
    """

    def __init__(
        self, *, always: bool = False, used: Callable[[], int] = used, collect: Callable[[], object] = gc.collect
    ) -> None:
        self._always = always
        self._used = used
        self._collect = collect
        self._usual: int | None = None

    def trial_over(self) -> None:
        """Measure the memory, and collect garbage if it has grown too much."""
        if self._always:
            self._collect()
        elif self._usual is None or self._used() > (1 + _SHARE) * self._usual:
            self._collect()
            self._usual = self._used()  # the rest is in use: no need to scan it again and again
