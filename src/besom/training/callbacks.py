"""The callbacks of every trial: the best-epoch tracker, and early stopping; and which callbacks act by step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from besom.config.objectives import Objective
from besom.models.distributed import mean_over_ranks
from besom.models.weights import state_of
from besom.training.best_epoch import BestEpochTracker
from besom.training.lightning import Package

_STEP_HOOKS = (
    "on_train_batch_start", "on_train_batch_end", "on_validation_batch_start", "on_validation_batch_end",
    "on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad",
)  # fmt: skip


def best_epoch(tracker: BestEpochTracker[dict[str, Tensor]], package: Package) -> pl.Callback:
    """Return the callback of a package that passes each epoch to a tracker, with copies of the best weights."""
    callback: pl.Callback = _best_epoch(package.callbacks.Checkpoint)(tracker)
    return callback


def early_stopping(keys: Mapping[str, Any], objective: Objective, package: Package) -> list[pl.Callback]:
    """Return Lightning's EarlyStopping by the objective, unless the config group `early_stopping` has no patience.

    It counts epochs, or validations where these come at other times.
    """
    if keys["patience"] is None:
        return []
    return [
        package.callbacks.EarlyStopping(
            objective.name,
            mode="max" if objective.direction == "maximize" else "min",
            patience=keys["patience"],
            min_delta=keys["min_delta"],
            strict=False,  # the tracker reports a missing objective
        )
    ]


def acts_by_step(callback: pl.Callback) -> bool:
    """Return whether a callback must see every step, and its module's automatic optimization.

    Checkpoints and Lightning's LearningRateMonitor override hooks of single batches, but need none with their usual
    arguments.
    """
    name = type(callback).__name__
    if name == "StochasticWeightAveraging":
        return True
    if name == "LearningRateMonitor":
        return getattr(callback, "logging_interval", None) != "epoch"
    if name == "ModelCheckpoint":
        return bool(getattr(callback, "_every_n_train_steps", 0) or getattr(callback, "_train_time_interval", None))
    base = next(kind for kind in type(callback).__mro__ if kind.__name__ == "Callback")
    return any(getattr(type(callback), hook) is not getattr(base, hook) for hook in _STEP_HOOKS)


@cache
def _best_epoch(base: type) -> type:
    # A Checkpoint, because Lightning calls those last, when everything of the epoch has been logged.
    return type("BestEpoch", (_BestEpoch, base), {})


class _BestEpoch:
    def __init__(self, tracker: BestEpochTracker[dict[str, Tensor]]) -> None:
        self._tracker = tracker
        self._reported: dict[str, Tensor] = {}

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report epoch 0, if the whole validation part was measured."""
        if trainer.num_sanity_val_steps == float("inf"):
            self._tracker.begin(self._fresh(trainer))

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop before the next step, if requested."""
        self._tracker.check()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch that has just ended; keep its weights if it is the best so far."""
        self._tracker.report_epoch(trainer.current_epoch + 1, self._fresh(trainer), lambda: state_of(pl_module))

    def _fresh(self, trainer: pl.Trainer) -> dict[str, float]:
        """Return the metrics that were logged since the last report: Lightning keeps those of an earlier validation."""
        logged = dict(trainer.callback_metrics)
        fresh = {name: value for name, value in logged.items() if value is not self._reported.get(name)}
        self._reported = logged
        return mean_metrics(trainer, fresh)


def mean_metrics(trainer: pl.Trainer, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics as numbers: their means over the ranks, each of which may have measured a part of the data."""
    own = {name: float(value) for name, value in metrics.items()}
    return mean_over_ranks(own) if trainer.world_size > 1 else own
