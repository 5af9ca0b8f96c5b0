"""The callback of every trial, which reports and keeps the best weights; and which callbacks act by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeAlias

import pytorch_lightning as pl
from torch import Tensor

from besom.models.distributed import mean_over_ranks
from besom.models.weights import State
from besom.training.best_epoch import BestEpochTracker, Patience
from besom.training.lightning import Package
from besom.training.progress import Moment

_STEP_HOOKS = (
    "on_train_batch_start", "on_train_batch_end", "on_validation_batch_start", "on_validation_batch_end",
    "on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad",
)  # fmt: skip


Keep: TypeAlias = Callable[[pl.LightningModule], State]
"""Makes a copy of a module's current state."""


def best_epoch(tracker: BestEpochTracker[State], patience: Patience, keep: Keep, package: Package) -> pl.Callback:
    """Return the callback of a package that passes each report to a tracker, and stops when `patience` is over.

    `keep` copies the weights of the best one.
    """
    callback: pl.Callback = _best_epoch(package.callbacks.Checkpoint)(tracker, patience, keep)
    return callback


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
    # A Checkpoint, because Lightning calls those last, when everything has been logged.
    return type("BestEpoch", (_BestEpoch, base), {})


class _BestEpoch:
    """Reports each validation; one at the end of an epoch together with what is logged there."""

    def __init__(self, tracker: BestEpochTracker[State], patience: Patience, keep: Keep) -> None:
        self._tracker = tracker
        self._patience = patience
        self._keep = keep
        self._reported: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report epoch 0, if the whole validation part was measured."""
        if trainer.num_sanity_val_steps == float("inf"):
            self._tracker.begin(self._fresh(trainer, self._reported))
            self._reported = dict(trainer.callback_metrics)

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop before the next step, if requested."""
        self._tracker.check()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note what training has logged, which is reported at the end of the epoch."""
        self._before = dict(trainer.callback_metrics)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report a validation within an epoch."""
        if trainer.sanity_checking or _ends_epoch(trainer):
            return
        metrics = self._fresh(trainer, self._before)
        if self._patience.is_over(metrics):
            trainer.should_stop = True
            if _ends_epoch(trainer):
                return
        logged = trainer.callback_metrics
        self._reported |= {name: logged[name] for name in metrics}
        self._report(trainer, pl_module, metrics, in_epoch=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch that has just ended, with its last validation if that came at its end."""
        metrics = self._fresh(trainer, self._reported)
        self._reported = dict(trainer.callback_metrics)
        self._report(trainer, pl_module, metrics, in_epoch=False)
        trainer.should_stop = self._patience.is_over(metrics) or trainer.should_stop

    def _report(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, metrics: Mapping[str, float], *, in_epoch: bool
    ) -> None:
        moment = Moment(epoch=trainer.current_epoch + 1, step=trainer.global_step, in_epoch=in_epoch)
        self._tracker.report(moment, metrics, lambda: self._keep(pl_module))

    def _fresh(self, trainer: pl.Trainer, before: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the metrics that were logged since then: Lightning keeps those of an earlier validation."""
        logged = trainer.callback_metrics
        return mean_metrics(trainer, {name: value for name, value in logged.items() if value is not before.get(name)})


def _ends_epoch(trainer: pl.Trainer) -> bool:
    """Return whether no step of this epoch follows the current validation."""
    return trainer.fit_loop.epoch_loop.done


def mean_metrics(trainer: pl.Trainer, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics as numbers: their means over the ranks, each of which may have measured a part of the data."""
    own = {name: float(value) for name, value in metrics.items()}
    return mean_over_ranks(own) if trainer.world_size > 1 else own
