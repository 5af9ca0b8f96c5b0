"""The machine's hardware: the processor's name, the GPU driver, and the free memory."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path


@lru_cache
def processor_name() -> str:
    """Return the processor's model from /proc/cpuinfo, or Python's name for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # other systems, and processors without a model name
        return platform.processor() or platform.machine()


def nvidia_driver(root: Path = Path("/")) -> str | None:
    """Return the version of NVIDIA's kernel driver, or None if there is none or it is unknown."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\b\d+(?:\.\d+)+\b", text)
    return found[0] if found else None


def free_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process can use without swapping, including reclaimable page cache.

    A container, or any other control group, may allow it less than the machine has.
    """
    try:
        lines = (root / "proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, min([free, *_left_in_groups(root)]))


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield the bytes that each control group of this process, and its ancestors, leave of their limits."""
    try:
        entries = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for _, controllers, path in entries:
        if controllers == "":
            top, limit, used, cached = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            limit, used, cached = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        inner = top / path.strip("/")
        for group in (inner, *inner.parents):
            if group.is_relative_to(top):
                yield from _left(group, limit, used, cached)


def _left(group: Path, limit: str, used: str, cached: str) -> Iterator[int]:
    try:
        stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        taken = int((group / used).read_text(encoding="ascii")) - int(stat[cached])
        yield int((group / limit).read_text(encoding="ascii")) - taken
    except (OSError, ValueError, KeyError):  # no limit, or not readable
        return
