"""The fidelity of a study: whether its pruner counts epochs, optimizer steps or validations."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from besom.config.units import Config, Unit, limit_of
from besom.errors import ConfigError, one_of
from besom.training.progress import Moment

FIDELITIES: Mapping[str, Unit] = {f"{unit}s": unit for unit in (Unit.EPOCH, Unit.STEP, Unit.VALIDATION)}
"""The values of `hydra.sweeper.fidelity`."""

_BY_RUNGS = ("HyperbandPruner", "SuccessiveHalvingPruner")


def read_fidelity(value: Any, source: str, *, foreign: bool) -> Unit:
    """Read `hydra.sweeper.fidelity`. Raises ConfigError for an unknown one, and for one of another app (`foreign`)."""
    where = f"{source}: hydra.sweeper.fidelity"
    if value not in FIDELITIES:
        raise ConfigError(f"{where}: '{value}' is unknown; {one_of(str(value), list(FIDELITIES))}")
    if foreign and FIDELITIES[value] is not Unit.EPOCH:
        raise ConfigError(f"{where}: a pruner counts the steps that the app passes to besom.report; leave it out")
    return FIDELITIES[value]


def with_resources(
    pruner: Mapping[str, Any], config: Config, source: str, *, sampled: Collection[str] = ()
) -> Mapping[str, Any]:
    """Return a pruner's config, in which resources that are left at their defaults count steps.

    `min_resource` is then the steps between two validations, `max_resource` the steps of a whole trial, as far as the
    config has them and they are not `sampled`. Raises ConfigError where Hyperband needs a number.
    """
    name = str(pruner.get("_target_")).rpartition(".")[2]
    if name not in _BY_RUNGS:
        return pruner
    trainer = config.get("trainer") or {}
    is_sampled = any(key.lstrip("+") == "trainer.val_check_interval" for key in sampled)
    interval = None if is_sampled else trainer.get("val_check_interval")
    found = dict(pruner)
    if found.get("min_resource", 1) == 1:
        if isinstance(interval, int):
            found["min_resource"] = max(1, interval // (trainer.get("accumulate_grad_batches") or 1))
        elif name == "SuccessiveHalvingPruner":
            found["min_resource"] = "auto"
        else:
            raise ConfigError(
                f"{source}: hydra.sweeper.pruner.min_resource: with fidelity=steps, 1 is before the first validation; "
                "set it to the steps between two validations, or have them come by trainer.val_check_interval=STEPS"
            )
    if name == "HyperbandPruner" and found.get("max_resource", "auto") == "auto":
        found["max_resource"] = limit_of(config, Unit.STEP, sampled=sampled) or "auto"
    return found


class PrunerCount:
    """Counts a trial's reports of the objective for the pruner.

    By epochs, an epoch has its last value, and counts when it is over. Values that are not finite do not count.
    """

    def __init__(self, unit: Unit, *, first: int = 1) -> None:
        """Count in this unit; `first` is the lowest number that counts: epoch 0 is before the first step."""
        self._unit = unit
        self._last = first - 1
        self._validations = 0
        self._value: float | None = None

    def count(self, moment: Moment, value: float | None) -> tuple[int, float] | None:
        """Take a report with the objective's value, if it has one; return the number and the value for the pruner."""
        if value is not None and math.isfinite(value):
            self._value = value
            self._validations += moment.step > 0
        if self._value is None or (moment.in_epoch and self._unit is Unit.EPOCH):
            return None
        counted, self._value = (self._number(moment), self._value), None
        if counted[0] <= self._last:
            return None
        self._last = counted[0]
        return counted

    def _number(self, moment: Moment) -> int:
        match self._unit:
            case Unit.STEP:
                return moment.step
            case Unit.VALIDATION:
                return self._validations
        return moment.epoch
