"""The arguments of Lightning's Trainer that are checked before a trial starts, and those that need Lightning's loop.

All others go to Lightning's Trainer as they are. Nothing here imports Lightning: the parent process checks configs.
`docs/lightning.md` has a row for each argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from besom.errors import ConfigError, closest

WORK = ".work"
"""The subfolder of a trial's folder for the files of its callbacks and loggers."""

BEST_WEIGHTS = ".best-weights-of-rank-"
"""The beginning of the name of the file in that folder where large best weights wait for the end of the training."""

_TRAINERS = ("pytorch_lightning.Trainer", "lightning.Trainer", "lightning.pytorch.Trainer")

ARGUMENTS = (
    "accelerator", "strategy", "devices", "num_nodes", "precision", "logger", "callbacks", "fast_dev_run", "max_epochs",
    "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches", "limit_val_batches",
    "limit_test_batches", "limit_predict_batches", "overfit_batches", "val_check_interval", "check_val_every_n_epoch",
    "num_sanity_val_steps", "log_every_n_steps", "enable_checkpointing", "enable_progress_bar", "enable_model_summary",
    "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "deterministic", "benchmark",
    "inference_mode", "use_distributed_sampler", "profiler", "detect_anomaly", "barebones", "plugins", "sync_batchnorm",
    "reload_dataloaders_every_n_epochs", "default_root_dir", "enable_autolog_hparams", "model_registry",
)  # fmt: skip
"""The arguments of Lightning's Trainer; a test compares them with its signature."""

_MAX_TIME = re.compile(r"\d+:\d\d:\d\d:\d\d")


def without_work(folder: Path) -> Path:
    """Return the folder of the artifacts for that of the callbacks' and loggers' files: the same without WORK."""
    return Path(*(part for part in folder.parts if part != WORK))


def _is_off(value: Any) -> bool:
    return not value


def _is_whole(value: Any) -> bool:
    """Return whether a limit is the whole part: 1.0, where the whole number 1 is a single batch."""
    return value is None or (isinstance(value, float) and value == 1.0)


_REFUSED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "barebones": (_is_off, "it turns off self.log, and with it the objective; leave it out"),
    "limit_predict_batches": (_is_whole, "a trial makes no predictions with its Trainer; leave it out"),
    "model_registry": (_is_off, "models are registered in MLflow; set hydra.sweeper.finalists.register instead"),
    "num_nodes": (lambda value: value in (None, 1), "a trial trains on one machine; leave it out"),
}
"""The arguments that are refused, each with the test for a value that asks for nothing, and the remedy."""

_BY_STEP: Mapping[str, Callable[[Any], bool]] = {
    "accumulate_grad_batches": lambda value: value in (None, 1),
    "fast_dev_run": _is_off,
    "gradient_clip_val": _is_off,
    "limit_test_batches": _is_whole,
    "limit_train_batches": _is_whole,
    "limit_val_batches": _is_whole,
    "overfit_batches": _is_off,
    "precision": lambda value: str(value) not in ("16", "16-mixed"),
    "val_check_interval": _is_whole,
}
"""The arguments that concern single steps or batches, each with the test for a value that asks for nothing.

Besom's own loop passes up to 128 batches at once to Lightning, which therefore cannot apply them there.
"""


def by_step(trainer: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the arguments in a Trainer's config for which Lightning's own loop must train Besom's models."""
    return tuple(key for key, asks_nothing in _BY_STEP.items() if key in trainer and not asks_nothing(trainer[key]))


def validates_within_epochs(trainer: Mapping[str, Any]) -> bool:
    """Return whether validations come at other times than at the ends of epochs."""
    by_batches = "check_val_every_n_epoch" in trainer and trainer["check_val_every_n_epoch"] is None
    return by_batches or not _is_whole(trainer.get("val_check_interval"))


def has_an_end(trainer: Mapping[str, Any]) -> bool:
    """Return whether some argument limits the training."""
    epochs, steps = trainer.get("max_epochs"), trainer.get("max_steps")
    limited = [limit for limit in (epochs, steps) if isinstance(limit, int) and limit != -1]
    return bool(limited) or trainer.get("max_time") is not None or bool(trainer.get("fast_dev_run"))


def check_trainer(trainer: Mapping[str, Any], objectives: tuple[str, ...], model: Mapping[str, Any]) -> None:
    """Refuse a Trainer's config under which a trial cannot run, or an argument that would have no effect.

    Raises ConfigError naming the argument.
    """
    _check_names(trainer)
    for key, (asks_nothing, remedy) in _REFUSED.items():
        if key in trainer and not asks_nothing(trainer[key]):
            raise ConfigError(f"trainer.{key}: {remedy}")
    epochs, max_time = trainer.get("max_epochs"), trainer.get("max_time")
    if isinstance(epochs, int) and epochs < 1 and epochs != -1:
        raise ConfigError(f"trainer.max_epochs: {epochs} is below 1; train for at least one epoch")
    if not has_an_end(trainer):
        raise ConfigError(
            f"trainer.max_epochs: with {'null' if epochs is None else epochs} training never ends; give a number of "
            "epochs, trainer.max_steps or trainer.max_time"
        )
    if isinstance(max_time, str) and not _MAX_TIME.fullmatch(max_time):
        raise ConfigError(f"trainer.max_time: '{max_time}' is no time; write DD:HH:MM:SS, such as 00:00:10:00")
    if trainer.get("gradient_clip_algorithm") is not None and not trainer.get("gradient_clip_val"):
        raise ConfigError("trainer.gradient_clip_algorithm: nothing is clipped; set trainer.gradient_clip_val as well")
    if trainer.get("gradient_clip_val") and model.get("gradient_clip_norm") is not None:
        raise ConfigError("trainer.gradient_clip_val: model.gradient_clip_norm clips already; set one of them to null")
    validated = next((name for name in objectives if name.startswith("val/")), None)
    if validated is not None and trainer.get("limit_val_batches") in (0, 0.0):
        raise ConfigError(
            f"trainer.limit_val_batches: 0 leaves nothing to measure the objective {validated} on; raise it, or take a "
            "train/ metric"
        )


def _check_names(trainer: Mapping[str, Any]) -> None:
    """Refuse a misspelled argument; any other unknown one may be new in Lightning, and the worker asks it."""
    for key in trainer if trainer.get("_target_") in _TRAINERS else ():
        if key != "_target_" and key not in ARGUMENTS and (meant := closest(key, ARGUMENTS)) is not None:
            raise ConfigError(f"there is no key trainer.{key}; did you mean trainer.{meant}?")
