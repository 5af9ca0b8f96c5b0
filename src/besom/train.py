"""One trial, from its config to its result: the whole path on one screen.

`train` runs in a worker. It knows nothing of studies and stores: it reports metrics after every epoch, leaves
the best weights in a folder, and returns the objective's best value.
"""

from __future__ import annotations

import logging
import math
import platform
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping
from torch import Tensor

from besom.data import InMemoryDataModule
from besom.errors import ConfigError, TrialFailed
from besom.hardware import processor_name
from besom.models import SupervisedModule
from besom.models.saved import save
from besom.targets import check_targets, signature_of

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "optuna", "mlflow")

Started = Callable[[dict[str, Any]], None]
Report = Callable[[int, dict[str, float]], None]

# Besom reports, records and paces itself; what Lightning suggests about it does not apply.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module="pytorch_lightning")
warnings.filterwarnings("ignore", message=".*LeafSpec.*")


@dataclass(frozen=True, kw_only=True)
class Result:
    """The objective's best value, the epoch it was reached at, and metrics measured once with the best weights."""

    value: float
    best_epoch: int
    summary: Mapping[str, float]


def train(config: Mapping[str, Any], *, started: Started, report: Report, directory: Path) -> Result:
    """Train what a resolved config describes and leave the best weights in `directory`.

    `started` hears once what was built; `report` hears the metrics of each epoch, from epoch 0, before the
    first step. Raises ConfigError or DataError for a config that cannot be trained, TrialFailed for a trial
    that comes to nothing.
    """
    torch.set_num_threads(config["threads"])
    # Ours draw from generators of their own; this is for what a user brings along.
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    check_targets(config)
    data = build_data(config)
    model = build_model(config, data)
    best = BestEpoch(config["objective"], config["direction"], report)
    trainer = build_trainer(config, best)
    started(describe(data, model, trainer))

    trainer.fit(model, datamodule=data)
    best.restore(model)
    summary = evaluate(trainer, model, data) if config["test"] else {}
    save(model, data, directory)
    return Result(value=best.value, best_epoch=best.epoch, summary=summary)


def build_data(config: Mapping[str, Any]) -> pl.LightningDataModule:
    """Build the data module; each source is read once per process."""
    data = instantiate(config["data"], _convert_="all")
    if not isinstance(data, pl.LightningDataModule):
        raise ConfigError(f"data._target_: {config['data']['_target_']} is not a LightningDataModule; name one that is")
    return data


def build_model(config: Mapping[str, Any], data: pl.LightningDataModule) -> pl.LightningModule:
    """Build the model, handing it what its constructor takes of the data's spec, the optimizer and the scheduler."""
    target = config["model"]["_target_"]
    offered = {
        "spec": getattr(data, "spec", None),
        "optimizer": instantiate(config["optimizer"], _convert_="all"),
        "scheduler": instantiate(config["scheduler"], _convert_="all") or None,
    }
    signature = signature_of(target, "model")
    accepted = set(signature.parameters) if signature else set()
    # A partial, called here: what Hydra is handed as a keyword argument, it would take for config and convert.
    build = instantiate({**config["model"], "_partial_": True}, _convert_="all")
    model = build(**{name: value for name, value in offered.items() if name in accepted})
    if not isinstance(model, pl.LightningModule):
        raise ConfigError(f"model._target_: {target} is not a LightningModule; name one that is")
    if isinstance(data, InMemoryDataModule) and not isinstance(model, SupervisedModule):
        data.steps_per_stretch = None  # a module of the user's own takes a batch at a time
    return model


def build_trainer(config: Mapping[str, Any], best: BestEpoch) -> pl.Trainer:
    """Build Lightning's Trainer with early stopping and the best weights by the objective."""
    callbacks: list[pl.Callback] = [best]
    patience = config["early_stopping"]["patience"]
    if patience is not None:
        callbacks.append(
            EarlyStopping(
                config["objective"],
                mode="max" if config["direction"] == "maximize" else "min",
                patience=patience,
                min_delta=config["early_stopping"]["min_delta"],
                check_on_train_epoch_end=True,
                strict=False,  # a missing objective is told of by BestEpoch
            )
        )
    trainer = instantiate(
        config["trainer"],
        _convert_="all",
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=-1,  # the whole validation part: this is epoch 0
    )
    assert isinstance(trainer, pl.Trainer)
    return trainer


class BestEpoch(Checkpoint):
    """Reports each epoch's metrics and keeps the best weights in memory.

    A Checkpoint because Lightning calls those last, when everything that was logged in the epoch is there.
    """

    def __init__(self, objective: str, direction: str, report: Report) -> None:
        self.value = math.nan
        self.epoch = 0
        self._objective = objective
        self._better: Callable[[float, float], bool] = float.__gt__ if direction == "maximize" else float.__lt__
        self._report = report
        self._weights: dict[str, Tensor] = {}

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report epoch 0."""
        self._report(0, _metrics(trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch that just ended; keep its weights if it is the best so far."""
        epoch, metrics = trainer.current_epoch + 1, _metrics(trainer)
        self._report(epoch, metrics)
        if self._objective not in metrics:
            raise ConfigError(
                f"objective: '{self._objective}' is not a metric of this run; use one of {', '.join(sorted(metrics))}"
            )
        value = metrics[self._objective]
        if not math.isfinite(value):
            raise TrialFailed(
                f"{self._objective} became {value} in epoch {epoch}; lower optimizer.lr, or scale the data"
            )
        if math.isnan(self.value) or self._better(value, self.value):
            self.value, self.epoch = value, epoch
            self._weights = {name: tensor.detach().clone() for name, tensor in pl_module.state_dict().items()}

    def restore(self, model: pl.LightningModule) -> None:
        """Put the best epoch's weights back into the model.

        Raises TrialFailed when no epoch was completed.
        """
        if not self._weights:
            raise TrialFailed("no epoch was completed; raise trainer.max_time")
        model.load_state_dict(self._weights)


def _metrics(trainer: pl.Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def evaluate(trainer: pl.Trainer, model: pl.LightningModule, data: pl.LightningDataModule) -> dict[str, float]:
    """Measure the model on the test part."""
    if isinstance(data, InMemoryDataModule) and not data.sizes["test"]:
        raise ConfigError("test: the data has no test part; set data.test_fraction, or test=false")
    (metrics,) = trainer.test(model, datamodule=data, verbose=False)
    return {name: float(value) for name, value in metrics.items()}


def describe(data: pl.LightningDataModule, model: pl.LightningModule, trainer: pl.Trainer) -> dict[str, Any]:
    """Return what is known of a trial once it is built: the data, the device, the size of the model."""
    device = trainer.strategy.root_device
    about: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({processor_name()})",
        "threads": torch.get_num_threads(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": versions(),
    }
    if isinstance(data, InMemoryDataModule):
        about |= {"data": data.spec.name, "digest": data.digest, "sizes": dict(data.sizes)}
    return about


@lru_cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {package: metadata.version(package) for package in PACKAGES}
