"""Tuning before the training, by Lightning's Tuner: a learning rate, or a batch size.

What is tuned is a model and data of their own, so that the training is the same as one whose config has the value that
was found: a recorded run is trained again with it, and not tuned again.
"""

from __future__ import annotations

import gc
import inspect
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from besom.config.targets.check import signature_of
from besom.config.trainer import WORK
from besom.config.tuning import KEYS, LR_FIND, with_tuned
from besom.data import InMemoryDataModule
from besom.errors import ConfigError, TrialFailed, one_of
from besom.models import SupervisedModule
from besom.training.fit import build_data, build_model, set_up
from besom.training.lightning import adapted, package_of, refusals_of
from besom.training.trainer import build_tuning_trainer

CURVE = "lr_find.json"
"""The artifact with the learning rates that were tried, the smoothed loss at each, and the rate that was found."""

_BEGIN = 10
"""The steps at the beginning of a search that count for nothing: their smoothed loss has few values behind it."""

_GIVEN = (
    "model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule", "method", "update_attr", "attr_name",
    "batch_arg_name",
)  # fmt: skip
"""The arguments of the Tuner's methods that are not the user's to choose: `tune.key` says what takes the value."""


def tune(config: Mapping[str, Any], directory: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Return a resolved config with the value that its group `tune` asks for, and what is to be reported of it.

    Of a learning rate, the curve is written into `directory`. Raises ConfigError if nothing can be tuned or found.
    """
    if not config.get("tune"):  # older recorded configs lack this key
        return config, {}
    set_up(config)
    method, key = config["tune"]["method"], _key(config)
    value = found = _search(config, key, directory / WORK)
    gc.collect()  # the memory of what was tuned is needed for the training
    if method == LR_FIND:
        value = steepest(found.results["lr"], found.results["loss"])
        curve = {"lr": found.results["lr"], "loss": found.results["loss"], "found": value}
        (directory / CURVE).write_text(json.dumps(curve), encoding="utf-8")
    return with_tuned(config, key, value), {"tuned": {"key": key, "value": value, "by": method}}


def _search(config: Mapping[str, Any], key: str, folder: Path) -> Any:
    """Call the Tuner's method for a model and data of its own; return its finder of learning rates, or a batch size."""
    method = config["tune"]["method"]
    arguments = {name: value for name, value in config["tune"].items() if name not in ("method", "key")}
    if "init_val" in arguments:
        config = with_tuned(config, key, arguments["init_val"])
    data = build_data(config)
    model = build_model(config, data)
    package = package_of(model)
    if isinstance(model, SupervisedModule):
        model.use_lightnings_loop()
    if isinstance(data, InMemoryDataModule):
        data.steps_per_chunk = None
    steps = arguments.get("num_training") or arguments.get("steps_per_trial") or 1
    search = getattr(package.tuner.Tuner(build_tuning_trainer(config, package, folder, steps=steps)), method)
    _check_arguments(search, arguments)
    taker = {"update_attr": False} if method == LR_FIND else {"batch_arg_name": key.rpartition(".")[2]}
    try:
        with refusals_of(package, "tune"), _unpickling_own_checkpoint():
            return search(model, datamodule=adapted(data, package), **taker, **arguments)
    except TrialFailed as failed:
        raise ConfigError(f"tune: {failed}, or tune.max_lr") from failed


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the learning rate at which the loss falls most steeply from step to step.

    Lightning's own suggestion divides by the distance of the rates, which favors the smallest of an exponential search.
    The first steps and the last count for nothing. Raises ConfigError if too few losses are finite.
    """
    tried = [pair for pair in list(zip(rates, losses, strict=False))[_BEGIN:-1] if math.isfinite(pair[1])]
    if len(tried) < 2:
        raise ConfigError(
            f"tune: no learning rate stands out after {len(losses)} steps; raise tune.num_training, or move "
            "tune.min_lr and tune.max_lr"
        )
    (slopes,) = torch.gradient(torch.tensor([loss for _, loss in tried]))
    return float(tried[int(slopes.argmin())][0])


@contextmanager
def _unpickling_own_checkpoint() -> Iterator[None]:
    """Let torch load the checkpoint that the Tuner has just written, whose hyperparameters may be any objects."""
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _key(config: Mapping[str, Any]) -> str:
    """Return the key that takes the value: the given one, or the first that a class of the config accepts."""
    given, method = config["tune"].get("key"), config["tune"]["method"]
    if given is not None:
        group, *path = str(given).split(".")
        if not path or not isinstance(config.get(group), Mapping):
            raise ConfigError(f"tune.key: '{given}' is no key of the config; name one, such as {KEYS[method][0]}")
        return str(given)
    for key in KEYS[method]:
        if _is_taken(config, key):
            return key
    raise ConfigError(
        f"tune: neither {' nor '.join(KEYS[method])} would be read by {config['model']['_target_']} and "
        f"{config['data']['_target_']}; set tune.key to the key that takes the value"
    )


def _is_taken(config: Mapping[str, Any], key: str) -> bool:
    """Return whether a key has an effect: whether the class of its node has a parameter of that name."""
    *path, name = key.split(".")
    node: Any = config
    for part in path:
        node = node.get(part) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping) or "_target_" not in node:
        return False
    if path == ["optimizer"] and not _has_parameter(config["model"], "optimizer", "model"):
        return False
    return _has_parameter(node, name, ".".join(path))


def _has_parameter(node: Mapping[str, Any], name: str, path: str) -> bool:
    signature = signature_of(node["_target_"], path)
    return signature is not None and name in signature.parameters


def _check_arguments(method: Any, arguments: Mapping[str, Any]) -> None:
    known = [name for name in inspect.signature(method).parameters if name not in _GIVEN]
    for name in arguments:
        if name not in known:
            raise ConfigError(f"tune.{name}: Tuner.{method.__name__} takes no '{name}'; {one_of(name, known)}")
