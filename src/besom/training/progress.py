"""The channel between a running trial and the sweep: progress and stop requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from besom.config.extras.logged import Log
from besom.training.result import TrialResult


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of a report: the epoch, from 1, and the optimizer steps so far; both are 0 before the first step.

    `in_epoch` is true for a validation after which the epoch goes on. With cross-validation, both numbers count folds.
    A job of another app has steps of its own, and no epochs.
    """

    epoch: int
    step: int
    in_epoch: bool = False


class Channel(Protocol):
    """Reports a trial's progress, and receives the request to stop it."""

    def started(self, about: Mapping[str, Any]) -> None:
        """Report that everything is built and the first step is next."""

    def report(self, moment: Moment, metrics: Mapping[str, float]) -> None:
        """Report the metrics of a validation, or of an epoch that has ended."""

    def log(self, log: Log) -> None:
        """Pass on what the trial's logger has received."""

    def should_stop(self, *, in_epoch: bool) -> bool:
        """Return whether to stop early; `in_epoch` when called between steps, not after a report."""


OnFinished = Callable[[int, TrialResult | Exception], None]
"""Receives a trial of a bundle with its result, or with the exception that ended it."""
