"""A running trial's side of things: what it says while it runs, what it is told, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a trial came to: its objectives' values, at `best_epoch` where there are epochs.

    `summary` holds the metrics that are measured once, such as those of the test part. `job` is the pickled
    JobReturn of another Hydra app's job.
    """

    values: tuple[float, ...]
    best_epoch: int | None = None
    summary: Mapping[str, float] = field(default_factory=dict)
    job: bytes | None = None


class Channel(Protocol):
    """What a trial says while it runs, and what it is told."""

    def started(self, about: Mapping[str, Any]) -> None:
        """Everything is built; the first step is next."""

    def report(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Say the metrics after an epoch."""

    def should_stop(self, *, in_epoch: bool) -> bool:
        """Whether to stop early: asked `in_epoch`, between steps, or else between two epochs."""
