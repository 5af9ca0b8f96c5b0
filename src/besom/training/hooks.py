"""The checks of a user's own module: the hooks that Lightning will call for a config, and the keys that it reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hydra.utils import get_object

from besom.config.objectives import read_objectives
from besom.config.targets.check import signature_of
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


def check_model_keys(config: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Refuse keys of the config groups that a model may read (see `keys_for_model`) for one that does not read them.

    Raises ConfigError naming the first.
    """
    target = config["model"]["_target_"]
    signature = signature_of(target, "model")
    for key in keys:
        group = key.partition(".")[0]
        if group in config["model"]:
            raise ConfigError(f"{key}: the model gets model.{group} instead; set that, or leave one of them out")
        if signature is None or group not in signature.parameters:
            raise ConfigError(
                f"{key}: {target} takes no '{group}', so that it changes nothing; add this parameter to it, or leave "
                "the key out"
            )
