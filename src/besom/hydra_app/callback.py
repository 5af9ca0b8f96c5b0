"""`besom.PruningCallback`: pruning for an app that trains with Lightning.

Lightning comes as two packages, `pytorch_lightning` and `lightning.pytorch`, whose classes do not know each other; the
callback belongs to whichever the app has imported by the time it makes one. Nothing is imported here before.
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
    """Reports a logged metric after every training epoch, and ends the training when the sweep says so.

    `monitor` is the name under which the LightningModule logs it, such as `val/acc`. Outside a sweep it does nothing.
    Raises TrialPruned out of `trainer.fit`: let it pass. Raises ConfigError when nothing of that name is logged.
    """

    def __new__(cls, monitor: str) -> Self:
        """Make one for the Lightning that is imported."""
        plain: Any = cls
        made: Self = super().__new__(_for_lightning(plain, _imported()))
        return made

    def __init__(self, monitor: str) -> None:
        # Lightning's own EarlyStopping is not initialized: only its place in the order of callbacks is wanted.
        self.monitor = monitor
        self.mode = "min"
        self.stopped_epoch = 0
        self._reported = False

    def __reduce__(self) -> tuple[Any, ...]:
        return PruningCallback, (self.monitor,)

    @property
    def state_key(self) -> str:
        """Its name in a checkpoint."""
        return f"besom.PruningCallback[{self.monitor}]"

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what was reported is the sweep's to keep."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing from a checkpoint."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Need nothing."""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Wait for the end of the epoch: only then is everything logged."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Stop before the next step, if it is so urgent."""
        _stop_everywhere(trainer, stop_if_urgent, always=False)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the epoch that just ended."""
        _stop_everywhere(trainer, lambda: self._report(trainer), always=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Refuse a training that never logged the metric."""
        if is_heard() and not self._reported and trainer.is_global_zero and trainer.current_epoch:
            raise self._unknown(trainer)

    def _report(self, trainer: Any) -> None:
        if not is_heard():
            return
        value = trainer.callback_metrics.get(self.monitor)
        epoch, every = trainer.current_epoch + 1, trainer.check_val_every_n_epoch
        if value is None:
            if every and epoch % every == 0:  # the validation part was measured, so that everything is there
                raise self._unknown(trainer)
            return
        self._reported = True
        follow(self.monitor, value, step=epoch)

    def _unknown(self, trainer: Any) -> ConfigError:
        known = ", ".join(sorted(trainer.callback_metrics)) or "self.log(...) in the LightningModule: it logs nothing"
        return ConfigError(f"besom.PruningCallback: '{self.monitor}' is not logged; use {known}")


def _stop_everywhere(trainer: Any, step: Any, *, always: bool) -> None:
    """Do a step in the process that the sweep listens to; when it stops, the trial's other processes stop as well."""
    if trainer.world_size == 1:
        step()
        return
    if not always:  # an exchange after every batch would cost more than the rest of an epoch saves
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
    # Lightning calls an EarlyStopping after everything was logged, as it does a Checkpoint. A Checkpoint would
    # also take the place of the app's own, or be refused where the app wants none.
    return tuple(importlib.import_module(f"{name}.callbacks").EarlyStopping for name in names)


@cache
def _for_lightning(cls: type, bases: tuple[type, ...]) -> Any:
    return type(cls.__name__, (cls, *bases), {"__module__": cls.__module__, "__doc__": cls.__doc__})
