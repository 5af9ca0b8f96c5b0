"""The events of a running sweep. An observer is a function that receives them one by one.

The workers' messages `Sized` and `Reported` are events too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from besom.config.units import Unit
from besom.workers.devices import Slot
from besom.workers.messages import Reported, Sized, TrialResult


@dataclass(frozen=True, kw_only=True)
class Dispatched:
    """A trial starts in a slot; `attempt` counts from 0."""

    trial: int
    slot: Slot
    attempt: int = 0


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A trial is over; `reached` is the number of its last report, in units of `axis`.

    `log` is the file with its output, `folder` the one in which another app's job has run, where they are known.
    """

    trial: int
    result: TrialResult
    reached: int = 0
    axis: Unit = Unit.EPOCH
    log: Path | None = None
    folder: str | None = None


@dataclass(frozen=True, kw_only=True)
class Retried:
    """An attempt at a trial failed, and the trial is run again."""

    trial: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Requeued:
    """A trial was interrupted; the same command runs it again."""

    trial: int


@dataclass(frozen=True, kw_only=True)
class Warned:
    """A warning for the user."""

    text: str


@dataclass(frozen=True, kw_only=True)
class StopRequested:
    """The user asked to stop: running epochs may end; a second request stops at once."""


@dataclass(frozen=True, kw_only=True)
class Polled:
    """The loop has handled all events that there were; a display may redraw."""


SweepEvent = Dispatched | Sized | Reported | Ended | Retried | Requeued | Warned | StopRequested | Polled
Observer = Callable[[SweepEvent], None]
