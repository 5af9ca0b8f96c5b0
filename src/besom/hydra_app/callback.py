"""`besom.PruningCallback`: pruning for an app that trains with Lightning.

Lightning comes as two packages, `pytorch_lightning` and `lightning.pytorch`, with separate classes; the callback is a
subclass of those that the app has imported when it creates one. This module imports neither of them.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from typing import Any, Self

from besom.errors import ConfigError, TrialPruned
from besom.hydra_app.report import count_anew, follow, is_heard, is_here, stop_if_urgent

_PACKAGES = ("pytorch_lightning", "lightning.pytorch")


class PruningCallback:
    """Reports the metrics of every validation, and stops the training when the sweep prunes the trial.

    `monitor` is the name under which the LightningModule logs the metric that the pruner follows, such as `val/acc`;
    the other logged metrics are recorded beside it. A step is an epoch, or a training step where validations come at
    other times than the end of an epoch. Each further `fit` of a job counts on. Outside a sweep it does nothing.

    Raises TrialPruned through `trainer.fit`: do not catch it. Raises ConfigError when the metric is never logged.
    """

    def __new__(cls, monitor: str) -> Self:
        """Create a subclass instance for the imported Lightning package."""
        plain: Any = cls
        callback: Self = super().__new__(_for_lightning(plain, _imported()))
        return callback

    def __init__(self, monitor: str) -> None:
        # Lightning's EarlyStopping is not initialized: it only determines the position among the callbacks.
        self.monitor = monitor
        self.mode = "min"
        self.stopped_epoch = 0
        self._reported = False
        self._known: dict[str, Any] = {}  # the metrics that were reported

    def __reduce__(self) -> tuple[Any, ...]:
        return PruningCallback, (self.monitor,)

    @property
    def state_key(self) -> str:
        """The key of its state in a checkpoint."""
        return f"besom.PruningCallback[{self.monitor}]"

    def state_dict(self) -> dict[str, Any]:
        """Return no state: the sweep stores the reported values."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: it has no state."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Do nothing, unlike EarlyStopping."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to count again: a job may fit several models, such as those of folds."""
        self._reported, self._known = False, {}
        if trainer.is_global_zero:
            count_anew()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the metrics of a validation that is not at the end of an epoch."""
        if _validates_by_step(trainer) and trainer.state.fn == "fit" and not trainer.sanity_checking:
            _stop_everywhere(trainer, lambda: self._report(trainer, trainer.global_step), always=True)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Stop before the next step if the sweep requests it at once."""
        _stop_everywhere(trainer, stop_if_urgent, always=False)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the metrics of the finished epoch, if the monitored one is new: validations may skip epochs."""
        step = trainer.global_step if _validates_by_step(trainer) else trainer.current_epoch + 1
        _stop_everywhere(trainer, lambda: self._report(trainer, step), always=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Raise ConfigError if the metric was never logged."""
        if is_heard() and not self._reported and trainer.is_global_zero and trainer.global_step:
            raise self._unknown(trainer)

    def _report(self, trainer: Any, step: int) -> None:
        if not is_heard():
            return
        # Lightning keeps a metric that is not logged again: it shares its memory with the known one then, of which
        # Lightning makes a new view for each callback that asks.
        logged, known = trainer.callback_metrics.items(), self._known
        new = {name: value for name, value in logged if name not in known or not value.is_set_to(known[name])}
        if self.monitor not in new:
            return
        self._reported = True
        self._known |= new
        follow(self.monitor, new, step=step)

    def _unknown(self, trainer: Any) -> ConfigError:
        known = ", ".join(sorted(trainer.callback_metrics)) or "self.log(...) in the LightningModule: it logs nothing"
        return ConfigError(f"besom.PruningCallback: '{self.monitor}' is not logged; use {known}")


def _validates_by_step(trainer: Any) -> bool:
    return bool(trainer.check_val_every_n_epoch is None or trainer.val_check_interval != 1.0)


def _stop_everywhere(trainer: Any, step: Any, *, always: bool) -> None:
    """Run a step in rank 0, which has the channel to the sweep; if it is pruned, stop all ranks of the trial."""
    if trainer.world_size == 1:
        step()
        return
    if not always:  # a broadcast after every batch would cost more time than it saves
        return
    pruned = False
    if trainer.is_global_zero:
        try:
            step()
        except TrialPruned:
            pruned = True
    if trainer.strategy.broadcast(pruned):
        if is_here() or trainer.is_global_zero:
            raise TrialPruned
        sys.exit(0)  # a rank that Lightning has started: nobody waits for what it raises


def _imported() -> tuple[type, ...]:
    names = [name for name in _PACKAGES if name in sys.modules] or [_PACKAGES[0]]
    # Lightning calls EarlyStopping and Checkpoint callbacks last, after all metrics are logged. A Checkpoint would
    # also replace the default one, or be refused with `enable_checkpointing=False`.
    return tuple(importlib.import_module(f"{name}.callbacks").EarlyStopping for name in names)


@cache
def _for_lightning(cls: type, bases: tuple[type, ...]) -> Any:
    return type(cls.__name__, (cls, *bases), {"__module__": cls.__module__, "__doc__": cls.__doc__})
