"""Formatting of durations and times, and times with their UTC offset."""

from __future__ import annotations

from datetime import datetime, timedelta


def duration(seconds: float) -> str:
    """Return a duration as text: `8.1 s`, `2:05 min`, `3:20 h`, `2 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    if whole < 86400:
        return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def moment(naive: datetime) -> datetime:
    """Return one of Optuna's naive local times with its UTC offset.

    Two times can be compared or subtracted across a change of clocks only with their offsets.
    """
    return naive.astimezone()


def stamp(moment: datetime) -> str:
    """Return a time as text: `2026-01-31 12:00:00`."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def offset(moment: datetime) -> str:
    """Return the UTC offset of a time as text: `UTC`, `UTC+05:30`."""
    minutes = int((moment.utcoffset() or timedelta()).total_seconds() // 60)
    sign = "-" if minutes < 0 else "+"
    return f"UTC{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}" if minutes else "UTC"
