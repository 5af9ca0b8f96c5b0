"""The config group `tune`: what Lightning's Tuner finds before the training, and the key that takes it.

Nothing here imports Lightning: the parent process checks configs, and records the value that a worker has found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from besom.errors import ConfigError, one_of

LR_FIND = "lr_find"
KEYS: Mapping[str, Sequence[str]] = {
    LR_FIND: ("model.lr", "model.learning_rate", "model.optimizer.lr", "optimizer.lr"),
    "scale_batch_size": ("data.batch_size", "model.batch_size"),
}
"""The methods of the Tuner, each with the keys that may take what it finds: the first that the classes accept."""


def check_tuning(tune: Mapping[str, Any], *, folds: int | None, trainer: Mapping[str, Any]) -> None:
    """Refuse a config under which nothing can be tuned; `tune` is empty where nothing is tuned. Raises ConfigError."""
    if not tune:
        return
    if (method := tune.get("method")) not in KEYS:
        raise ConfigError(f"tune.method: '{method}' is unknown; {one_of(str(method), list(KEYS))}")
    if folds is not None:
        raise ConfigError(
            "tune: with evaluation.folds, each fold would have its own value; tune without folds, and set the value"
        )
    if trainer.get("fast_dev_run"):
        raise ConfigError("tune: trainer.fast_dev_run ends before anything is found; leave one of them out")
    if (devices := trainer.get("devices", 1)) not in (1, "1", [0]):
        raise ConfigError(f"tune: it works on one device, and a trial has {devices}; tune on one, and set the value")


def check_sampled(tune: Mapping[str, Any], sampled: Iterable[str]) -> None:
    """Refuse to tune in a sweep what it samples, or a batch size, for which trials would fight over memory.

    Raises ConfigError.
    """
    if not tune:
        return
    if tune["method"] != LR_FIND:
        raise ConfigError(
            "tune: a batch size is not tuned in a sweep, whose trials share memory; find it with besom train "
            "tune=batch_size, and set data.batch_size"
        )
    taking = [tune["key"]] if tune.get("key") else KEYS[LR_FIND]
    for key in sampled:
        if key.lstrip("+") in taking:
            raise ConfigError(f"tune: the sweep samples {key}, which tune=lr would replace; leave one of them out")


def with_tuned(config: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return a config with the value that was found at its key, and nothing more to tune."""
    return {**_with(config, key.split("."), value), "tune": {}}


def _with(node: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    return {**node, first: _with(node.get(first) or {}, rest, value) if rest else value}
