"""One trial, from its config to its result: the whole path on one screen.

`train` runs in a worker. It knows nothing of studies and stores: it reports metrics after every epoch, leaves
the best weights in a folder, and returns the objective's best value.
"""

from __future__ import annotations

import logging
import platform
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch import Tensor

from besom.config.hydra_versions import build
from besom.config.objectives import Objective, leading, read_objectives
from besom.config.targets import check_targets, signature_of
from besom.data import InMemoryDataModule
from besom.errors import ConfigError
from besom.models import SupervisedModule
from besom.models.distributed import mean_over_ranks, meet, rank_count
from besom.models.saved import save
from besom.system.hardware import nvidia_driver, processor_name
from besom.training.best_epoch import BestEpochTracker
from besom.training.ddp_channel import DDPChannel
from besom.training.figure_data import Predictions, write_figure_data
from besom.training.hooks import check_hooks
from besom.training.progress import Channel, Outcome

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "optuna", "mlflow")

# Besom reports, records and paces itself; what Lightning suggests about it does not apply.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module="pytorch_lightning")
warnings.filterwarnings("ignore", message=".*LeafSpec.*")


def train(config: Mapping[str, Any], *, channel: Channel, directory: Path) -> Outcome:
    """Train what a resolved config describes and leave the best weights in `directory`.

    The conversation hears once what was built, and the metrics of each epoch, from epoch 0, before the first step.
    Raises ConfigError or DataError for a config that cannot be trained, TrialFailed for a trial that comes to
    nothing, TrialPruned when it is told to stop.
    """
    set_up(config)
    if rank_count() > 1:
        channel = DDPChannel(channel)
    data = build_data(config)
    if config["test"]:
        check_test_part(data)
    objectives = read_objectives(config)
    tracker: BestEpochTracker[dict[str, Tensor]] = BestEpochTracker(leading(objectives), channel)
    fitted = fit(config, data, tracker, told=channel)
    costs = costs_of(fitted.model, objectives, seconds=fitted.seconds)
    summary = fitted.leave(config, directory, fitted.predictions(config))
    return Outcome(
        values=objective_values(objectives, {**tracker.metrics, **costs}),
        best_epoch=tracker.epoch,
        summary={**summary, **costs},
    )


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A model with its best weights, what it was trained on, and how long that took."""

    model: pl.LightningModule
    data: pl.LightningDataModule
    trainer: pl.Trainer
    seconds: float

    def predictions(self, config: Mapping[str, Any]) -> Predictions | None:
        """Return what the model says of its validation part, for the figures; None where none needs it."""
        return Predictions.of(self.model, self.data, config) if self.trainer.is_global_zero else None

    def leave(self, config: Mapping[str, Any], directory: Path, predictions: Predictions | None) -> dict[str, float]:
        """Leave in `directory` the weights and what the figures are drawn from; return what the test part says.

        That is nothing, unless the config asks for it.
        """
        summary = evaluate(self.trainer, self.model, self.data) if config["test"] else {}
        if self.trainer.is_global_zero:
            save(self.model, self.data, directory)
            write_figure_data(self.model, self.data, predictions, config, directory)
        return summary


def set_up(config: Mapping[str, Any]) -> None:
    """Set what holds for a whole process, and refuse what no constructor takes."""
    configure_torch(config)
    seed(config)
    check_targets(config)
    check_hooks(config)


def seed(config: Mapping[str, Any]) -> None:
    """Seed the generators that everybody shares. Ours draw from their own; this is for what a user brings along."""
    pl.seed_everything(config["seed"], workers=True, verbose=False)


def fit(
    config: Mapping[str, Any],
    data: pl.LightningDataModule,
    tracker: BestEpochTracker[dict[str, Tensor]],
    *,
    told: Channel | None = None,
) -> Fitted:
    """Train a new model on data, through a course; `told` hears what was built, before the first step."""
    model = build_model(config, data)
    trainer = build_trainer(config, tracker)
    if told is not None:
        told.started(describe(data, model, trainer))
    if rank_count() > 1:
        meet(config["trainer"]["accelerator"])
    began = time.perf_counter()
    trainer.fit(model, datamodule=data)
    seconds = time.perf_counter() - began
    model.load_state_dict(tracker.best_weights())
    return Fitted(model=model, data=data, trainer=trainer, seconds=seconds)


def configure_torch(config: Mapping[str, Any]) -> None:
    """Set what holds for a whole process: its threads, and the precision of float32 products."""
    torch.set_num_threads(config["threads"])
    torch.set_float32_matmul_precision(config.get("matmul_precision", "highest"))  # runs of old have no such key


def build_data(config: Mapping[str, Any]) -> pl.LightningDataModule:
    """Build the data module; each source is read once per process."""
    data = build(config["data"])
    if not isinstance(data, pl.LightningDataModule):
        raise ConfigError(f"data._target_: {config['data']['_target_']} is not a LightningDataModule; name one that is")
    return data


def build_model(config: Mapping[str, Any], data: pl.LightningDataModule) -> pl.LightningModule:
    """Build the model, handing it what its constructor takes of the data's spec, the optimizer and the scheduler."""
    target = config["model"]["_target_"]
    offered = {
        "spec": getattr(data, "spec", None),
        "optimizer": build(config["optimizer"]),
        "scheduler": build(config["scheduler"]) or None,
    }
    signature = signature_of(target, "model")
    accepted = set(signature.parameters) if signature else set()
    # A partial, called here: what Hydra is handed as a keyword argument, it would take for config and convert.
    make = build({**config["model"], "_partial_": True})
    model = make(**{name: value for name, value in offered.items() if name in accepted})
    if not isinstance(model, pl.LightningModule):
        raise ConfigError(f"model._target_: {target} is not a LightningModule; name one that is")
    if isinstance(data, InMemoryDataModule) and not isinstance(model, SupervisedModule):
        data.steps_per_chunk = None  # a module of the user's own takes a batch at a time
    return model


def build_trainer(config: Mapping[str, Any], tracker: BestEpochTracker[dict[str, Tensor]]) -> pl.Trainer:
    """Build Lightning's Trainer with early stopping and the best weights by the objective."""
    callbacks: list[pl.Callback] = [BestEpoch(tracker)]
    patience = config["early_stopping"]["patience"]
    if patience is not None:
        callbacks.append(
            EarlyStopping(
                tracker.objective.name,
                mode="max" if tracker.objective.direction == "maximize" else "min",
                patience=patience,
                min_delta=config["early_stopping"]["min_delta"],
                check_on_train_epoch_end=True,
                strict=False,  # a missing objective is told of by BestEpoch
            )
        )
    devices = config["trainer"].get("devices", 1)
    if isinstance(devices, int) and devices != rank_count():
        raise ConfigError(
            f"trainer.devices: {devices} device(s) asked for in a slot of {rank_count()}; "
            f"for a sweep, set hydra.sweeper.devices_per_trial={devices}"
        )
    trainer = build(
        config["trainer"],
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=-1,  # the whole validation part: this is epoch 0
        **({"plugins": [LightningEnvironment()]} if rank_count() > 1 else {}),  # whatever Slurm says beside us
    )
    assert isinstance(trainer, pl.Trainer)
    if rank_count() > 1 and not _shares_out(trainer.strategy):
        raise ConfigError(
            f"trainer.strategy: {config['trainer'].get('strategy')} cannot train on the {rank_count()} devices of a "
            "slot; use ddp, or ddp_find_unused_parameters_true"
        )
    return trainer


def _shares_out(strategy: Strategy) -> bool:
    # ddp_spawn and its like would start ranks of their own; the launcher that does is private to Lightning.
    kinds = [kind.__name__ for kind in type(strategy.launcher).__mro__]
    return isinstance(strategy, DDPStrategy) and "_MultiProcessingLauncher" not in kinds


class BestEpoch(Checkpoint):
    """Takes a trial through its course, epoch by epoch, with the best weights kept in memory.

    A Checkpoint because Lightning calls those last, when everything that was logged in the epoch is there.
    """

    def __init__(self, tracker: BestEpochTracker[dict[str, Tensor]]) -> None:
        self._tracker = tracker

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report epoch 0."""
        self._tracker.begin(_metrics(trainer))

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop before the next step, if it is so urgent."""
        self._tracker.check()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch that just ended; keep its weights if it is the best so far."""
        self._tracker.go_on(trainer.current_epoch + 1, _metrics(trainer), lambda: copied(pl_module))


def copied(module: pl.LightningModule) -> dict[str, Tensor]:
    """Return a module's weights as they are now."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _metrics(trainer: pl.Trainer) -> dict[str, float]:
    return _common(trainer, trainer.callback_metrics)


def _common(trainer: pl.Trainer, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as numbers; of several ranks, each of which may have measured a part of the data, their means."""
    own = {name: float(value) for name, value in metrics.items()}
    return mean_over_ranks(own) if trainer.world_size > 1 else own


def objective_values(objectives: Sequence[Objective], measured: Mapping[str, float]) -> tuple[float, ...]:
    """Return the objectives' values. Raises ConfigError when one of them was not measured."""
    missing = [objective.name for objective in objectives if objective.name not in measured]
    if missing:
        raise ConfigError(
            f"objective: '{missing[0]}' is not a metric of this run; use one of {', '.join(sorted(measured))}"
        )
    return tuple(measured[objective.name] for objective in objectives)


def costs_of(
    model: pl.LightningModule, objectives: Sequence[Objective] = (), *, seconds: float = 0.0
) -> dict[str, float]:
    """Return what a trial cost: `seconds` only where an objective asks for them, since they differ each time."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    timed = any(objective.name == "cost/seconds" for objective in objectives)
    return {"cost/params": float(trainable)} | ({"cost/seconds": seconds} if timed else {})


def check_test_part(data: pl.LightningDataModule) -> None:
    """Refuse, before anything is trained, what could not be tested. Raises ConfigError."""
    if isinstance(data, InMemoryDataModule) and not data.sizes["test"]:
        raise ConfigError("test: the data has no test part; set data.test_fraction, or test=false")


def evaluate(trainer: pl.Trainer, model: pl.LightningModule, data: pl.LightningDataModule) -> dict[str, float]:
    """Measure the model on the test part."""
    (metrics,) = trainer.test(model, datamodule=data, verbose=False)
    return _common(trainer, metrics)


def describe(data: pl.LightningDataModule, model: pl.LightningModule, trainer: pl.Trainer) -> dict[str, Any]:
    """Return what is known of a trial once it is built: the data, the device, the size of the model."""
    about: dict[str, Any] = {
        "device": _devices(trainer),
        "threads": torch.get_num_threads(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": versions(),
        "determinism": determinism(),
    }
    if trainer.strategy.root_device.type == "cuda":
        about["cuda"] = cuda_versions()
    if isinstance(data, InMemoryDataModule):
        about |= {"data": data.spec.name, "digest": data.digest, "sizes": dict(data.sizes)}
        about |= {"columns": list(data.source.told)} if data.source.told else {}
    return about


def _devices(trainer: pl.Trainer) -> str:
    devices = getattr(trainer.strategy, "parallel_devices", None) or [trainer.strategy.root_device]
    names = Counter(
        torch.cuda.get_device_name(one) if one.type == "cuda" else f"cpu ({processor_name()})" for one in devices
    )
    return " + ".join(name if count == 1 else f"{count} x {name}" for name, count in names.items())


def determinism() -> dict[str, bool | str]:
    """Return the settings of this process that decide whether, and to which bit, a computation repeats itself."""
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
    }


@lru_cache
def cuda_versions() -> dict[str, str]:
    """Return the versions of CUDA and cuDNN that torch brings, and of the driver, where it tells."""
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    found = {"cuda": torch.version.cuda, "cudnn": cudnn, "driver": nvidia_driver()}
    return {name: str(version) for name, version in found.items() if version is not None}


@lru_cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):  # torchvision need not be there
            found[package] = metadata.version(package)
    return found
