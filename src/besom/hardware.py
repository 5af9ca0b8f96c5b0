"""What this machine's processor is called."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path


@lru_cache
def processor_name() -> str:
    """Return the processor's model as Linux tells it, or what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # other systems, and processors that do not say
        return platform.processor() or platform.machine()
