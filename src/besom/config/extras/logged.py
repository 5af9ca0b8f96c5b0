"""What a trial's logger receives beside the reports, as a worker sends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Point:
    """The metrics of one training step; `time_s` is in seconds since the epoch."""

    step: int
    metrics: Mapping[str, float]
    time_s: float


@dataclass(frozen=True, kw_only=True)
class Log:
    """What a trial's logger has received beside the reports: metrics by step, params and tags for the run."""

    points: tuple[Point, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
