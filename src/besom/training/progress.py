"""The channel between a running trial and the sweep: progress, stop requests, the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a trial: its objectives' values, at `best_epoch` where there are epochs.

    `summary` holds the metrics that are measured once, such as those of the test part. `job` is the pickled
    JobReturn of another Hydra app's job.
    """

    values: tuple[float, ...]
    best_epoch: int | None = None
    summary: Mapping[str, float] = field(default_factory=dict)
    job: bytes | None = None


class Channel(Protocol):
    """Reports a trial's progress, and receives the request to stop it."""

    def started(self, about: Mapping[str, Any]) -> None:
        """Report that everything is built and the first step is next."""

    def report(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Report the metrics after an epoch."""

    def should_stop(self, *, in_epoch: bool) -> bool:
        """Return whether to stop early; `in_epoch` when called between steps, not between epochs."""


OnFinished = Callable[[int, Outcome | Exception], None]
"""Receives a trial of a bundle with its outcome, or with the exception that ended it."""
