"""The rule for which trials may share a stack: a pure function of two configs, for the parent process without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from besom.config.checks import folds_of

_MODELS = ("LinearRegression", "LogisticRegression", "MLPClassifier", "MLPRegressor")
_OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad")
_UNSAFE = ("capturable", "differentiable")  # their steps may raise, which would end the other members too
_OWN = ("seed", "model", "optimizer", "scheduler", "early_stopping", "tracking")
_TRAINER = ("_target_", "accelerator", "devices", "max_epochs", "deterministic")
_IN_PLACE = ("linear", "relu", "leaky_relu", "elu", "tanh", "sigmoid")


def bundle_key(config: Mapping[str, Any], *, own_models: bool = True) -> str | None:
    """Return the key that trials must have in common to share a stack; None for a trial that cannot share one.

    The model, the optimizer, the scheduler, early stopping and their seeds may differ; the data, its batches and their
    order, the epochs, the objective and the device must be the same. For a user's own model, unless `own_models` is
    false, the class must be the same; the worker inspects the networks, and may still train the trials one by one.
    """
    target = str(config["model"].get("_target_"))
    own = not is_besom_model(config["model"])
    if own and (not own_models or target.startswith("besom.")):
        return None
    if not (_has_supported_optimizer(config["optimizer"]) and _is_supported(config)):
        return None
    common = {key: value for key, value in config.items() if key not in _OWN}
    return json.dumps({**common, "model": target if own else None}, sort_keys=True, default=str)


def is_besom_model(model: Mapping[str, Any]) -> bool:
    """Return whether a model is one of Besom's, whose networks share a stack whatever their shapes."""
    package, _, name = str(model.get("_target_")).rpartition(".")
    return package == "besom.models" and name in _MODELS and model.get("output_activation", "linear") in _IN_PLACE


def _has_supported_optimizer(optimizer: Mapping[str, Any]) -> bool:
    package, _, name = str(optimizer.get("_target_")).rpartition(".")
    return package == "torch.optim" and name in _OPTIMIZERS and not any(optimizer.get(flag) for flag in _UNSAFE)


def _is_supported(config: Mapping[str, Any]) -> bool:
    """Return whether a stack supports data and trainer: in-memory data, one split and device, whole epochs, float32."""
    trainer = config["trainer"]
    return (
        config["data"].get("_target_") == "besom.data.InMemoryDataModule"
        and trainer.get("_target_") == "pytorch_lightning.Trainer"
        and trainer.get("devices", 1) == 1
        and trainer.get("precision", "32-true") == "32-true"
        and trainer.get("max_time") is None
        and set(trainer) <= {*_TRAINER, "precision", "max_time"}
        and not config["test"]
        and not config.get("callbacks")  # older recorded configs lack these keys
        and not config.get("logger")
        and not config.get("tune")
        and config.get("best_weights_in_memory_mb") is None  # members, which are small, keep theirs in memory
        and folds_of(config) is None
        and "cost/seconds" not in str(config["objective"])  # wall time cannot be attributed to one trial of a bundle
    )
