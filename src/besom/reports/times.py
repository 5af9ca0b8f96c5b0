"""Times as people say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A duration: `8.1 s`, `2:05 min`, `3:20 h`, `2 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    if whole < 86400:
        return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
