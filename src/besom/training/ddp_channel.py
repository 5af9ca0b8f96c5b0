"""The channel of a trial that several ranks train together: rank 0 decides for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from besom.config.extras.logged import Log
from besom.models.distributed import agreed
from besom.training.progress import Channel, Moment

_STEPS = 16


class DDPChannel:
    """A channel that all ranks share: rank 0 decides when to stop, and all stop at the same step.

    Every rank reports; the rank coordinator forwards only rank 0's messages. Between steps, the stop request is checked
    only every 16 steps, since all ranks wait for each other then.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._step = 0

    def started(self, about: Mapping[str, Any]) -> None:
        """Report that everything is built and the first step is next."""
        self._channel.started(about)

    def report(self, moment: Moment, metrics: Mapping[str, float]) -> None:
        """Report the metrics of a validation, or of an epoch that has ended."""
        self._channel.report(moment, metrics)

    def log(self, log: Log) -> None:
        """Pass on what the trial's logger has received."""
        self._channel.log(log)

    def should_stop(self, *, in_epoch: bool) -> bool:
        """Return whether to stop early: rank 0's answer, on every rank."""
        if in_epoch:
            self._step += 1
            if self._step % _STEPS:
                return False
        return agreed(self._channel.should_stop(in_epoch=in_epoch))
