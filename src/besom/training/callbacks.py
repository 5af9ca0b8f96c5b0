"""The callbacks of every trial, which report and keep the best weights; and which callbacks act by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import pytorch_lightning as pl
from torch import Tensor

from besom.errors import ConfigError
from besom.models.distributed import mean_over_ranks
from besom.models.weights import State, state_of
from besom.training.best_epoch import BestEpochTracker, Patience
from besom.training.lightning import Package
from besom.training.progress import Moment

_STEP_HOOKS = (
    "on_train_batch_start", "on_train_batch_end", "on_validation_batch_start", "on_validation_batch_end",
    "on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad",
)  # fmt: skip


Keep: TypeAlias = Callable[[pl.LightningModule], State]
"""Makes a copy of a module's current state."""

_BEFORE_VALIDATION = ("on_validation_start", "on_validation_epoch_start")
_AFTER_VALIDATION = ("on_validation_end", "on_validation_epoch_end")


def best_epoch(
    tracker: BestEpochTracker[State], patience: Patience, keep: Keep, others: Sequence[pl.Callback], package: Package
) -> list[pl.Callback]:
    """Return callbacks in their order: `others`, and one that passes each report to a tracker.

    It stops the training when `patience` is over; `keep` copies the weights of the best report. It comes last, also
    after other checkpoints, which a pruned trial has saved by then; the first is `trainer.checkpoint_callback`.
    """
    measured = _subclass(_MeasuredWeights, package.Callback)(keep, others)
    return [measured, *others, _subclass(_BestEpoch, package.callbacks.Checkpoint)(tracker, patience, measured)]


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
    return _overrides(callback, _STEP_HOOKS)


def averaged_after_validation(trainer: pl.Trainer, module: pl.LightningModule) -> bool:
    """Return whether stochastic weight averaging has just put its average in place, without a validation of it.

    With batch normalization, it trains the statistics for an epoch more, which is validated.
    """
    callbacks: Sequence[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    by_class = {kind.__name__: each for each in callbacks for kind in type(each).__mro__}
    swa: Any = by_class.get("StochasticWeightAveraging")
    if swa is None or not any(trainer.num_val_batches):
        return False
    endless = trainer.max_epochs == -1
    return endless or (trainer.current_epoch == trainer.max_epochs and not swa.pl_module_contains_batch_norm(module))


def _overrides(part: Any, hooks: Sequence[str]) -> bool:
    base = next(kind for kind in type(part).__mro__ if kind.__name__ in ("Callback", "LightningModule"))
    return any(getattr(type(part), hook) is not getattr(base, hook) for hook in hooks)


@cache
def _subclass(kind: type, base: type) -> Any:
    return type(kind.__name__.removeprefix("_"), (kind, base), {})


class _MeasuredWeights:
    """Copies the weights of a validation where its hooks may exchange them for its time, as an average's do (EMA).

    It comes first, so that nobody has put the others back yet. Such a copy is in memory, whatever its size.
    """

    def __init__(self, keep: Keep, others: Sequence[pl.Callback]) -> None:
        self._keep = keep
        self._others = [each for each in others if not type(each).__module__.startswith("besom.")]
        self._copy: State | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a module whose own callbacks have replaced one of the config's, which Lightning does quietly."""
        for callback in self._others:
            if callback not in trainer.callbacks:  # type: ignore[attr-defined]
                raise ConfigError(
                    f"callbacks: {type(pl_module).__name__}.configure_callbacks returns a callback that replaces the "
                    f"config's {type(callback).__name__}; drop one of them"
                )

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the weights, if a callback or the module has hooks on both sides of a validation."""
        parts = (pl_module, *self._others)
        exchanged = any(_overrides(part, _BEFORE_VALIDATION) and _overrides(part, _AFTER_VALIDATION) for part in parts)
        self._copy = state_of(pl_module) if exchanged and not trainer.sanity_checking else None

    def take(self, pl_module: pl.LightningModule) -> State:
        """Return the weights of the last validation; the present ones if they are the same, or nothing was measured."""
        copy, self._copy = self._copy, None
        return self._keep(pl_module) if copy is None else copy


class _BestEpoch:
    """Reports each validation; one at the end of an epoch together with what is logged there."""

    # A Checkpoint, because Lightning calls those last, when everything has been logged.

    def __init__(self, tracker: BestEpochTracker[State], patience: Patience, measured: _MeasuredWeights) -> None:
        self._tracker = tracker
        self._patience = patience
        self._measured = measured
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
        if trainer.sanity_checking or trainer.state.fn != "fit" or _ends_epoch(trainer):
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
        self._tracker.report(moment, metrics, lambda: self._measured.take(pl_module))

    def _fresh(self, trainer: pl.Trainer, before: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the metrics that were logged since then: Lightning keeps those of an earlier validation.

        Those share their memory with the earlier ones, of which it makes a new view for each callback that asks.
        """
        logged = trainer.callback_metrics.items()
        new = {name: value for name, value in logged if name not in before or not value.is_set_to(before[name])}
        return mean_metrics(trainer, new)


def _ends_epoch(trainer: pl.Trainer) -> bool:
    """Return whether no step of this epoch follows the current validation."""
    return trainer.fit_loop.epoch_loop.done


def mean_metrics(trainer: pl.Trainer, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics as numbers: their means over the ranks, each of which may have measured a part of the data."""
    own = {name: float(value) for name, value in metrics.items()}
    return mean_over_ranks(own) if trainer.world_size > 1 else own
