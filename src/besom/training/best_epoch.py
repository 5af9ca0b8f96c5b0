"""The best-epoch tracker: passes on a trial's reports, keeps the best one, and stops the trial on request.

`Patience` decides when training stops early.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch

from besom.config.objectives import Objective
from besom.errors import ConfigError, TrialFailed, TrialPruned
from besom.training.progress import Channel, Moment

Weights = TypeVar("Weights")


class BestEpochTracker(Generic[Weights]):
    """Passes on each report, keeps the metrics and weights of the best one, and ends the trial on request.

    `metrics` are those of the best report and, of metrics that it does not have, the last values before it.
    """

    def __init__(self, objective: Objective, channel: Channel, others: Sequence[Objective] = ()) -> None:
        """Track `objective`; the best report comes after all `others` were measured, costs aside."""
        self.objective = objective
        self.metrics: Mapping[str, float] = {}
        self.epoch = 0
        self.step = 0
        self.weights: Weights | None = None
        self._needed = {one.name for one in (objective, *others) if not one.is_cost}
        self._known: dict[str, float] = {}
        self._channel = channel

    def begin(self, metrics: Mapping[str, float]) -> None:
        """Report epoch 0, before the first step. Raises TrialPruned on a request to stop."""
        self._report(Moment(epoch=0, step=0), metrics)

    def report(self, moment: Moment, metrics: Mapping[str, float], weights: Callable[[], Weights]) -> None:
        """Report a validation, or the end of an epoch; keep the copy from `weights` if it is the best so far.

        A report without the objective is never the best. Raises TrialFailed when the objective is not finite,
        TrialPruned on a request to stop.
        """
        name = self.objective.name
        self._known |= metrics
        self._report(moment, metrics)
        if name not in metrics:
            return
        value = metrics[name]
        if not math.isfinite(value):
            raise TrialFailed(f"{name} became {value} in epoch {moment.epoch}; lower optimizer.lr, or scale the data")
        if self._needed <= self._known.keys() and (
            not self.metrics or self.objective.better(value, self.metrics[name])
        ):
            self._keep(moment, weights)

    def check(self) -> None:
        """Raise TrialPruned on a request to stop within the epoch."""
        if self._channel.should_stop(in_epoch=True):
            raise TrialPruned

    def best_weights(self) -> Weights:
        """Return the weights of the best report.

        Raises ConfigError naming the objective that was not measured, TrialFailed when no epoch was completed.
        """
        if self.weights is not None:
            return self.weights
        if not self._known:
            raise TrialFailed("no epoch was completed; raise trainer.max_time")
        missing = sorted(self._needed - self._known.keys())
        name = missing[0] if missing else self.objective.name
        if name.startswith("val/") and not any(each.startswith("val/") for each in self._known):
            raise ConfigError(
                f"objective: '{name}' was not measured: training ended before the first validation; train for longer, "
                "or set trainer.val_check_interval"
            )
        if missing:
            raise ConfigError(
                f"objective: '{name}' is not a metric of this run; use one of {', '.join(sorted(self._known))}"
            )
        others = ", ".join(sorted(self._needed - {name}))
        raise ConfigError(f"objective: '{name}' was last measured before {others}; measure them together")

    def _keep(self, moment: Moment, weights: Callable[[], Weights]) -> None:
        self.metrics, self.epoch, self.step, self.weights = dict(self._known), moment.epoch, moment.step, weights()

    def _report(self, moment: Moment, metrics: Mapping[str, float]) -> None:
        self._channel.report(moment, metrics)
        if self._channel.should_stop(in_epoch=False):
            raise TrialPruned


class LastEpochTracker(BestEpochTracker[Weights]):
    """A tracker that keeps the last report, whatever its metrics."""

    def report(self, moment: Moment, metrics: Mapping[str, float], weights: Callable[[], Weights]) -> None:
        """Report a validation, or the end of an epoch, and keep the copy from `weights`. Raises as `begin` does."""
        self._known |= metrics
        self._report(moment, metrics)
        self._keep(moment, weights)


class Patience:
    """Decides when training stops early, by the rule of Lightning's EarlyStopping and in single precision as there.

    It counts the reports that have the objective; Lightning's own would count an old value again at each validation
    that does not measure it.
    """

    def __init__(self, keys: Mapping[str, Any], objective: Objective) -> None:
        """Read the config group `early_stopping`; without a `patience`, training never stops early."""
        self._objective = objective
        self._limit: int | None = keys["patience"]
        delta = float(keys["min_delta"])
        self._delta = delta if objective.direction == "maximize" else -delta
        self._best: float | None = None
        self._waited = 0

    def is_over(self, metrics: Mapping[str, float]) -> bool:
        """Count a report with these metrics; return whether training stops now."""
        if self._limit is None or self._objective.name not in metrics:
            return False
        value = torch.tensor(metrics[self._objective.name], dtype=torch.float32)
        if self._best is None or self._objective.better(float(value - self._delta), self._best):
            self._best, self._waited = float(value), 0
        else:
            self._waited += 1
        return self._waited >= self._limit
