"""Lightning's Trainer for one trial: its arguments, callbacks and loggers, and which loop trains the model."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.errors import InstantiationException

from besom.config.extras.groups import is_mlflow_logger, named, run_tags
from besom.config.hydra_versions import build
from besom.config.targets.check import check_targets, signature_of
from besom.config.trainer import BEST_WEIGHTS, by_step, without_work
from besom.data import InMemoryDataModule
from besom.errors import ConfigError, in_one_line
from besom.models import SupervisedModule
from besom.models.distributed import rank_count
from besom.models.weights import State, keep_state
from besom.training.best_epoch import BestEpochTracker, Patience
from besom.training.callbacks import acts_by_step, best_epoch
from besom.training.lightning import Package, for_package
from besom.training.loggers.log import TrialLog
from besom.training.loggers.logger import besom_logger

BEST_WEIGHTS_IN_MEMORY_MB = 100
"""The default size in MB above which the best weights are kept in a file.

It saves memory, not time: by bench/best_weights.py, 100 MB take about 0.1 s in a file on a local disk, and a copy less.
A smaller copy matters on no device, and needs no disk, which may be a slow one.
"""

_PRINT = ("enable_model_summary", "profiler")
"""The arguments with which Lightning prints at the level INFO, at which it also talks about itself."""

_EXTRAS = ("callbacks", "logger")
"""The arguments that `Extras` has built."""


_ENDS: Mapping[str, Callable[[Any, bool], object]] = {
    "BesomLogger": lambda experiment, failed: experiment.flush(),
    "CometLogger": lambda experiment, failed: experiment.end(),
    "NeptuneLogger": lambda run, failed: run.stop(),
    "WandbLogger": lambda run, failed: run.finish(exit_code=int(failed)),
}
"""What ends the run of a logger, by the name of its class, with whether the trial failed."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """The callbacks and loggers that a config adds to a trial."""

    callbacks: Sequence[pl.Callback]
    loggers: Sequence[Any]

    @classmethod
    def build(cls, config: Mapping[str, Any], package: Package, log: TrialLog, folder: Path) -> Extras:
        """Build the groups `callbacks` and `logger`, what `trainer` adds to them, and Besom's logger with its callback.

        Besom's comes last, so that `self.logger` is the first that the config chooses; or where the config names
        Lightning's MLFlowLogger, whose run it is. Relative folders are below `folder`, so that each trial has its own.

        Raises ConfigError naming the key of one that cannot be built.
        """
        trainer = config["trainer"]
        asked = {True: {"csv": {"_target_": "pytorch_lightning.loggers.CSVLogger"}}, False: None}
        logger = trainer.get("logger")
        logger = asked[logger] if isinstance(logger, bool) else logger
        callbacks = [
            *named(config.get("callbacks"), "callbacks"),
            *named(trainer.get("callbacks"), "trainer.callbacks"),
        ]
        own = besom_logger(log, package, folder=folder, artifacts=without_work(folder))
        loggers: list[Any] = []
        for key, node in (*named(config.get("logger"), "logger"), *named(logger, "trainer.logger")):
            if is_mlflow_logger(node):
                log.describe(tags=run_tags(node, key))
                loggers.append(own)
            else:
                loggers.append(_built(key, node, package.loggers.Logger, package, folder))
        built = [_built(key, node, package.Callback, package, folder) for key, node in callbacks]
        return cls(callbacks=[own.keeper, *built], loggers=list(dict.fromkeys([*loggers, own])))


def choose_loop(
    config: Mapping[str, Any], model: pl.LightningModule, data: pl.LightningDataModule, extras: Extras
) -> dict[str, Any]:
    """Choose the loop that trains a model, and return it with the reason: `loop`, and `loop_because` if it is slower.

    Besom's models are trained by their own loop (see `besom.models.SupervisedModule`), unless an argument of the
    Trainer or a callback concerns single steps. Every other module is trained by Lightning's, with plain batches.
    """
    if not isinstance(model, SupervisedModule):
        if isinstance(data, InMemoryDataModule):
            data.steps_per_chunk = None
        return {"loop": "lightning"}
    reasons = [f"trainer.{key}" for key in by_step(config["trainer"])]
    reasons += [type(callback).__name__ for callback in extras.callbacks if acts_by_step(callback)]
    if not reasons:
        return {"loop": "besom"}
    model.use_lightnings_loop()
    if isinstance(data, InMemoryDataModule):
        data.steps_per_chunk = None
    return {"loop": "lightning", "loop_because": reasons}


def build_trainer(
    config: Mapping[str, Any],
    tracker: BestEpochTracker[State],
    extras: Extras,
    *,
    package: Package,
    measures_epoch_0: bool,
    folder: Path,
) -> pl.Trainer:
    """Build a Trainer of a package with early stopping and best-epoch tracking by the objective.

    With `measures_epoch_0`, the whole validation part is measured before the first step, unless the config sets
    `trainer.num_sanity_val_steps`. Lightning's files go below `folder` by default. Raises ConfigError for arguments
    that Lightning refuses.
    """
    given = {key: value for key, value in for_package(config["trainer"], package).items() if key not in _EXTRAS}
    _check_devices(given.get("devices", 1))
    loud = any(given.get(key) for key in _PRINT)
    logging.getLogger(package.__name__).setLevel(logging.INFO if loud else logging.WARNING)
    defaults: dict[str, Any] = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": str(folder),
        **({"num_sanity_val_steps": -1} if measures_epoch_0 else {}),
    }
    if given.get("default_root_dir") is not None:
        given["default_root_dir"] = str(folder / given["default_root_dir"])
    if isinstance(given.get("profiler"), str):
        given["profiler"] = _profiler(given["profiler"], package, folder)
    limit_mb = config.get("best_weights_in_memory_mb")  # older recorded configs lack this key
    keep = partial(
        keep_state,
        file=folder / f"{BEST_WEIGHTS}{os.environ.get('LOCAL_RANK', 0)}",
        limit_mb=BEST_WEIGHTS_IN_MEMORY_MB if limit_mb is None else limit_mb,
    )
    others = [*extras.callbacks, *_checkpoint(given.pop("enable_checkpointing", None), extras, package)]
    callbacks = best_epoch(tracker, Patience(config["early_stopping"], tracker.objective), keep, others, package)
    more: dict[str, Any] = {"callbacks": callbacks, "logger": list(extras.loggers)}
    if rank_count() > 1:  # also within a Slurm job, whose own ranks these are not
        environment = build({"_target_": f"{package.__name__}.plugins.environments.LightningEnvironment"})
        more["plugins"] = [*_items(given.pop("plugins", None)), environment]
    trainer = _built_trainer({**defaults, **given}, more)
    if rank_count() > 1 and not _supports_ranks(trainer, package):
        raise ConfigError(
            f"trainer.strategy: {given.get('strategy')} cannot train on the {rank_count()} devices of a slot; use ddp, "
            "or ddp_find_unused_parameters_true"
        )
    return trainer


def build_tuning_trainer(config: Mapping[str, Any], package: Package, folder: Path, *, steps: int) -> pl.Trainer:
    """Build a Trainer for `steps` steps of Lightning's Tuner: by the same arguments, without callbacks and loggers.

    `self.logger` of the module ignores every call. Raises ConfigError for arguments that Lightning refuses.
    """
    left_out = (*_EXTRAS, *_PRINT, "max_steps", "max_time", "min_epochs", "min_steps")
    given = {key: value for key, value in for_package(config["trainer"], package).items() if key not in left_out}
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"max_epochs": steps, "num_sanity_val_steps": 0}  # an epoch may have a single step
    trainer = _built_trainer({**given, **whole, "default_root_dir": str(folder)}, quiet)
    trainer.loggers = [package.loggers.logger.DummyLogger()]
    return trainer


def _built_trainer(node: Mapping[str, Any], arguments: Mapping[str, Any]) -> pl.Trainer:
    try:
        # A partial, called here: Hydra would take a logger that answers to any name for a config.
        trainer: pl.Trainer = build({**node, "_partial_": True})(**arguments)
    except Exception as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else None
        raise ConfigError(f"trainer: {in_one_line(cause or error)}") from error
    return trainer


def finish_loggers(trainer: pl.Trainer, *, failed: bool = False) -> None:
    """End what loggers leave open when a trial is over: runs of services, which would take the next trial's metrics."""
    loggers: Sequence[Any] = trainer.loggers
    for logger in loggers:
        # Not `logger.experiment`, which would begin a run where training failed before there was one.
        run = getattr(logger, "_experiment", None) or getattr(logger, "_run_instance", None)
        for kind in type(logger).__mro__ if run is not None else ():
            if end := _ENDS.get(kind.__name__):
                end(run, failed)


def _check_devices(devices: Any) -> None:
    if isinstance(devices, int) and devices != rank_count():
        raise ConfigError(
            f"trainer.devices: {devices} device(s) asked for in a slot of {rank_count()}; "
            f"for a sweep, set hydra.sweeper.devices_per_trial={devices}"
        )


def _supports_ranks(trainer: pl.Trainer, package: Package) -> bool:
    # ddp_spawn and the like would start their own ranks; the launcher that does so is private to Lightning.
    kinds = [kind.__name__ for kind in type(trainer.strategy.launcher).__mro__]
    return isinstance(trainer.strategy, package.strategies.DDPStrategy) and "_MultiProcessingLauncher" not in kinds


def _profiler(name: str, package: Package, folder: Path) -> Any:
    """Return the profiler of a name that Lightning knows, which writes into `folder`; else the name, to be refused."""
    kinds = {"simple": "SimpleProfiler", "advanced": "AdvancedProfiler", "pytorch": "PyTorchProfiler"}
    if name not in kinds:
        return name
    return {"_target_": f"{package.__name__}.profilers.{kinds[name]}", "dirpath": str(folder), "filename": "profile"}


def _built(key: str, given: Mapping[str, Any], kind: type, package: Package, folder: Path) -> Any:
    node: dict[str, Any] = for_package(given, package)
    check_targets(node, key)
    signature = signature_of(node["_target_"], key)
    accepted = set(signature.parameters) if signature else set()
    if "save_dir" in accepted:
        node["save_dir"] = str(folder / (node.get("save_dir") or ""))
    if "dirpath" in accepted and node.get("dirpath") is not None:
        node["dirpath"] = str(folder / node["dirpath"])
    try:
        result = build(node)
    except InstantiationException as error:
        raise ConfigError(f"{key}: {in_one_line(error.__cause__ or error)}") from error
    if not isinstance(result, kind):
        raise ConfigError(f"{key}._target_: {node['_target_']} is not a {kind.__name__} of {package.__name__}")
    return result


def _checkpoint(enabled: bool | None, extras: Extras, package: Package) -> list[pl.Callback]:
    """Return what `trainer.enable_checkpointing` adds. Besom's own callback makes Lightning add nothing by itself."""
    has_one = any(isinstance(callback, package.callbacks.ModelCheckpoint) for callback in extras.callbacks)
    if enabled is False and has_one:
        raise ConfigError("trainer.enable_checkpointing: it is false, and callbacks have a ModelCheckpoint; drop one")
    return [package.callbacks.ModelCheckpoint()] if enabled and not has_one else []


def _items(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
