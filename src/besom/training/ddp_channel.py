"""The channel of a trial whose ranks train together: rank 0 decides for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from besom.models.distributed import agreed
from besom.training.progress import Channel

_STEPS = 16


class DDPChannel:
    """A conversation that all ranks lead as one: rank 0 decides when to stop, and all stop at the same step.

    Every rank reports; whoever started them listens to rank 0. Between steps the wish is asked for every 16 steps
    only, since all ranks wait for each other then.
    """

    def __init__(self, own: Channel) -> None:
        self._own = own
        self._step = 0

    def started(self, about: Mapping[str, Any]) -> None:
        """Everything is built; the first step is next."""
        self._own.started(about)

    def report(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Say the metrics after an epoch."""
        self._own.report(epoch, metrics)

    def should_stop(self, *, in_epoch: bool) -> bool:
        """Whether to stop early: rank 0's answer, on every rank."""
        if in_epoch:
            self._step += 1
            if self._step % _STEPS:
                return False
        return agreed(self._own.should_stop(in_epoch=in_epoch))
