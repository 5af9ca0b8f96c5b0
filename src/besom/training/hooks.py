"""The check that a user's own module has the hooks which Lightning will call for a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.utils import get_object

from besom.config.objectives import read_objectives
from besom.errors import ConfigError
from besom.training.lightning import base_of

_BASES: Mapping[str, str] = {"model": "LightningModule", "data": "LightningDataModule"}


def check_hooks(config: Mapping[str, Any]) -> None:
    """Refuse a resolved config whose model or data lack a hook that the objective or the test needs.

    Only classes are checked: what a function returns is known only when it is called. Raises ConfigError naming the
    key.
    """
    validated = next((one.name for one in read_objectives(config) if one.name.startswith("val/")), None)
    needed: list[tuple[str, str, str, str]] = [
        ("model", "training_step", "to train", "add it"),
        ("model", "configure_optimizers", "to train", "add it"),
        ("data", "train_dataloader", "to train", "add it"),
    ]
    if validated is not None:
        needed += [
            (part, hook, f"to measure the objective {validated}", "add it, or take a train/ metric")
            for part, hook in (("model", "validation_step"), ("data", "val_dataloader"))
        ]
    if config["test"]:
        needed += [
            (part, hook, "to be tested", "add it, or leave out test=true and hydra.sweeper.finalists")
            for part, hook in (("model", "test_step"), ("data", "test_dataloader"))
        ]
    for part, hook, what_for, remedy in needed:
        target = config[part]["_target_"]
        found = get_object(target)
        base = base_of(found, _BASES[part]) if isinstance(found, type) else None
        if base is not None and getattr(found, hook) is getattr(base, hook):
            raise ConfigError(f"{part}._target_: {target} has no {hook}, which it needs {what_for}; {remedy}")
