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
from besom.hydra_app.report import follow, is_heard, stop_if_urgent

_PACKAGES = ("pytorch_lightning", "lightning.pytorch")


class PruningCallback:
    """Reports a logged metric after every training epoch, and stops the training when the sweep prunes the trial.

    `monitor` is the name under which the LightningModule logs it, such as `val/acc`. Outside a sweep it does nothing.
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

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Do nothing, unlike EarlyStopping: all metrics are logged only at the end of the epoch."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Stop before the next step if the sweep requests it at once."""
        _stop_everywhere(trainer, stop_if_urgent, always=False)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the metric of the finished epoch."""
        _stop_everywhere(trainer, lambda: self._report(trainer), always=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Raise ConfigError if the metric was never logged."""
        if is_heard() and not self._reported and trainer.is_global_zero and trainer.current_epoch:
            raise self._unknown(trainer)

    def _report(self, trainer: Any) -> None:
        if not is_heard():
            return
        value = trainer.callback_metrics.get(self.monitor)
        epoch, every = trainer.current_epoch + 1, trainer.check_val_every_n_epoch
        if value is None:
            if every and epoch % every == 0:  # after a validation, every metric should be logged
                raise self._unknown(trainer)
            return
        self._reported = True
        follow(self.monitor, value, step=epoch)

    def _unknown(self, trainer: Any) -> ConfigError:
        known = ", ".join(sorted(trainer.callback_metrics)) or "self.log(...) in the LightningModule: it logs nothing"
        return ConfigError(f"besom.PruningCallback: '{self.monitor}' is not logged; use {known}")


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
        raise TrialPruned


def _imported() -> tuple[type, ...]:
    names = [name for name in _PACKAGES if name in sys.modules] or [_PACKAGES[0]]
    # Lightning calls EarlyStopping and Checkpoint callbacks last, after all metrics are logged. A Checkpoint would
    # also replace the default one, or be refused with `enable_checkpointing=False`.
    return tuple(importlib.import_module(f"{name}.callbacks").EarlyStopping for name in names)


@cache
def _for_lightning(cls: type, bases: tuple[type, ...]) -> Any:
    return type(cls.__name__, (cls, *bases), {"__module__": cls.__module__, "__doc__": cls.__doc__})
