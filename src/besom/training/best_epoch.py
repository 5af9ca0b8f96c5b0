"""The best-epoch tracker: reports a trial's epochs, keeps the best one, and stops the trial on request."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from besom.config.objectives import Objective
from besom.errors import ConfigError, TrialFailed, TrialPruned
from besom.training.progress import Channel

Weights = TypeVar("Weights")


class BestEpochTracker(Generic[Weights]):
    """Reports each epoch, keeps the metrics and weights of the best one, and ends the trial on request."""

    def __init__(self, objective: Objective, channel: Channel) -> None:
        self.objective = objective
        self.metrics: Mapping[str, float] = {}
        self.epoch = 0
        self.weights: Weights | None = None
        self._names: set[str] = set()
        self._channel = channel

    def begin(self, metrics: Mapping[str, float]) -> None:
        """Report epoch 0, before the first step. Raises TrialPruned on a request to stop."""
        self._report(0, metrics)

    def report_epoch(self, epoch: int, metrics: Mapping[str, float], weights: Callable[[], Weights]) -> None:
        """Report an epoch that has just ended; keep the copy from `weights` if it is the best so far.

        An epoch without the objective, such as one without a validation, is never the best. Raises TrialFailed when the
        objective is not finite, TrialPruned on a request to stop.
        """
        name = self.objective.name
        self._names |= metrics.keys()
        self._report(epoch, metrics)
        if name not in metrics:
            return
        value = metrics[name]
        if not math.isfinite(value):
            raise TrialFailed(f"{name} became {value} in epoch {epoch}; lower optimizer.lr, or scale the data")
        if not self.metrics or self.objective.better(value, self.metrics[name]):
            self.metrics, self.epoch, self.weights = metrics, epoch, weights()

    def check(self) -> None:
        """Raise TrialPruned on a request to stop within the epoch."""
        if self._channel.should_stop(in_epoch=True):
            raise TrialPruned

    def best_weights(self) -> Weights:
        """Return the best epoch's weights.

        Raises ConfigError when no epoch had the objective, TrialFailed when no epoch was completed.
        """
        if self.weights is not None:
            return self.weights
        name = self.objective.name
        if name.startswith("val/") and self._names and not any(each.startswith("val/") for each in self._names):
            raise ConfigError(
                f"objective: '{name}' was not measured: training ended before the first validation; train for longer, "
                "or set trainer.val_check_interval"
            )
        if self._names:
            names = ", ".join(sorted(self._names))
            raise ConfigError(f"objective: '{name}' is not a metric of this run; use one of {names}")
        raise TrialFailed("no epoch was completed; raise trainer.max_time")

    def _report(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._channel.report(epoch, metrics)
        if self._channel.should_stop(in_epoch=False):
            raise TrialPruned


class LastEpochTracker(BestEpochTracker[Weights]):
    """A tracker that keeps the last epoch, whatever its metrics."""

    def report_epoch(self, epoch: int, metrics: Mapping[str, float], weights: Callable[[], Weights]) -> None:
        """Report an epoch that has just ended, and keep the copy from `weights`. Raises TrialPruned as `begin` does."""
        self._report(epoch, metrics)
        self.metrics, self.epoch, self.weights = metrics, epoch, weights()
