"""What a trial is counted in: epochs, optimizer steps, validations or folds.

The metrics of a run are recorded by its axis. A pruner counts in the fidelity of its study.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, TypeAlias

from omegaconf import DictConfig

from besom.config.trainer import validates_within_epochs

Config: TypeAlias = DictConfig | Mapping[str, Any]


class Unit(StrEnum):
    """A unit, as labels and messages name it."""

    EPOCH = "epoch"
    STEP = "step"
    VALIDATION = "validation"
    FOLD = "fold"


EPOCH_METRIC = "epoch"
"""The metric with the epoch, from 1, in runs that are recorded by step."""


def axis_of(config: Config, fidelity: Unit = Unit.EPOCH) -> Unit:
    """Return the axis of a run with this config, in a study of this fidelity.

    It is the epoch where each report ends one; the step where validations come within epochs, or pruners count steps.
    """
    folds = (config.get("evaluation") or {}).get("folds")  # older recorded configs lack these keys
    if folds is not None:
        return Unit.FOLD
    return Unit.STEP if fidelity is Unit.STEP or validates_within_epochs(config.get("trainer") or {}) else Unit.EPOCH


def limit_of(config: Config, unit: Unit, *, sampled: Collection[str] = ()) -> int | None:
    """Return how many units a whole trial of this config has; None if it is unknown, or a key is `sampled`."""
    group, _, name = LIMITS[unit].partition(".")
    keys = {key.lstrip("+") for key in sampled}
    trainer = config.get("trainer") or {}
    every = trainer.get("check_val_every_n_epoch", 1)
    if unit is Unit.VALIDATION and (validates_within_epochs(trainer) or _WHEN & keys):
        return None
    limit = None if LIMITS[unit] in keys else (config.get(group) or {}).get(name)
    if not isinstance(limit, int) or limit < 1:
        return None
    return limit // every if unit is Unit.VALIDATION else limit


LIMITS: Mapping[Unit, str] = {
    Unit.EPOCH: "trainer.max_epochs",
    Unit.STEP: "trainer.max_steps",
    Unit.VALIDATION: "trainer.max_epochs",
    Unit.FOLD: "evaluation.folds",
}
"""The key that limits each unit in a trial."""
_WHEN = {"trainer.check_val_every_n_epoch", "trainer.val_check_interval"}
"""The keys that decide when validations come."""
