"""The channel between a running trial and the sweep: progress and stop requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from besom.training.result import TrialResult


class Channel(Protocol):
    """Reports a trial's progress, and receives the request to stop it."""

    def started(self, about: Mapping[str, Any]) -> None:
        """Report that everything is built and the first step is next."""

    def report(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Report the metrics after an epoch."""

    def should_stop(self, *, in_epoch: bool) -> bool:
        """Return whether to stop early; `in_epoch` when called between steps, not between epochs."""


OnFinished = Callable[[int, TrialResult | Exception], None]
"""Receives a trial of a bundle with its result, or with the exception that ended it."""
