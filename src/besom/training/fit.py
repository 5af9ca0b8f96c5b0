"""The training of one trial, from its config to its result.

`train` runs in a worker. It knows neither studies nor stores: it reports metrics after every validation, writes the
best weights into a folder, and returns the objectives' values.
"""

from __future__ import annotations

import logging
import platform
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from besom.config.hydra_versions import build
from besom.config.objectives import Objective, leading, read_objectives
from besom.config.targets.check import check_targets, signature_of
from besom.config.trainer import WORK
from besom.data import InMemoryDataModule
from besom.errors import ConfigError, TrialPruned
from besom.models.distributed import join_process_group, rank_count
from besom.models.saved import save
from besom.models.weights import State, load_state, parameter_count, state_of, uncompiled
from besom.system.hardware import nvidia_driver, processor_name
from besom.training.best_epoch import BestEpochTracker
from besom.training.callbacks import averaged_after_validation, mean_metrics
from besom.training.ddp_channel import DDPChannel
from besom.training.figure_data import Predictions, write_figure_data
from besom.training.hooks import check_hooks
from besom.training.lightning import adapted, base_of, builds_later, package_of, refusals_of
from besom.training.loggers.log import TrialLog
from besom.training.progress import Channel, Moment
from besom.training.result import TrialResult
from besom.training.trainer import Extras, build_trainer, choose_loop, finish_loggers

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "optuna", "mlflow")

# Besom reports, records and stops training itself; Lightning's suggestions about that do not apply.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning\.pytorch")
warnings.filterwarnings("ignore", message=".*LeafSpec.*")


def train(
    config: Mapping[str, Any], *, channel: Channel, directory: Path, about: Mapping[str, Any] | None = None
) -> TrialResult:
    """Train a resolved config and write the best weights into `directory`.

    The channel receives one report of what was built, with `about`, and the metrics of each validation, from epoch 0,
    before the first step; those of a training epoch come with the validation at its end, or alone. Raises ConfigError
    or DataError for a config that cannot be trained, TrialFailed for a trial without a usable result, TrialPruned on a
    request to stop.
    """
    set_up(config)
    if rank_count() > 1:
        channel = DDPChannel(channel)
    data = build_data(config)
    if config["test"]:
        check_test_part(data)
    objectives = read_objectives(config)
    tracker: BestEpochTracker[State] = BestEpochTracker(leading(objectives), channel, objectives)
    fitted = fit(config, data, tracker, directory / WORK, channel=channel, about=about)
    costs = costs_of(fitted.model, objectives, seconds=fitted.seconds)
    with fitted.loggers_open():
        summary = fitted.write(config, directory, fitted.predictions(config))
    return TrialResult(
        values=objective_values(objectives, {**tracker.metrics, **costs}),
        best_epoch=tracker.epoch,
        best_step=tracker.step,
        summary={**summary, **costs},
    )


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A model with its best weights, its data and trainer, and the training time."""

    model: pl.LightningModule
    data: pl.LightningDataModule
    trainer: pl.Trainer
    seconds: float

    def predictions(self, config: Mapping[str, Any]) -> Predictions | None:
        """Return the model's predictions for its validation part, for the figures; None where no figure needs them."""
        return Predictions.of(self.model, self.data, config) if self.trainer.is_global_zero else None

    def write(self, config: Mapping[str, Any], directory: Path, predictions: Predictions | None) -> dict[str, float]:
        """Write the weights and the data of the figures into `directory`; return the metrics of the test part.

        These are empty unless the config asks for a test.
        """
        summary = evaluate(self.trainer, self.model, self.data) if config["test"] else {}
        if self.trainer.is_global_zero:
            save(self.model, self.data, directory)
            write_figure_data(self.model, self.data, predictions, config, directory)
        return summary

    @contextmanager
    def loggers_open(self) -> Iterator[None]:
        """Return a context manager at whose end the loggers are finished: a test logs as well."""
        try:
            yield
        except BaseException:
            finish_loggers(self.trainer, failed=True)
            raise
        finish_loggers(self.trainer)


def set_up(config: Mapping[str, Any]) -> None:
    """Configure the process, seed it, and refuse keys and classes that cannot work."""
    configure_torch(config)
    torch.compiler.reset()  # it compiles a class a few times only: those of earlier trials must not count
    seed(config)
    check_targets(config)
    check_hooks(config)


def seed(config: Mapping[str, Any]) -> None:
    """Seed the global generators, for a user's own code: Besom's modules have their own generators."""
    pl.seed_everything(config["seed"], workers=True, verbose=False)


def fit(
    config: Mapping[str, Any],
    data: pl.LightningDataModule,
    tracker: BestEpochTracker[State],
    folder: Path,
    *,
    channel: Channel,
    about: Mapping[str, Any] | None = None,
) -> Fitted:
    """Train a new model on data with a tracker.

    The channel receives what was built, and `about`, before the first step, and what the trial's logger receives.

    What callbacks and loggers write goes below `folder`. The loggers are left open.
    """
    model = build_model(config, data)
    package = package_of(model)
    log = TrialLog(channel, [objective.name for objective in read_objectives(config)])
    extras = Extras.build(config, package, log, folder)
    loop = choose_loop(config, model, data, extras)
    trainer = build_trainer(
        config, tracker, extras, package=package, measures_epoch_0=isinstance(data, InMemoryDataModule), folder=folder
    )
    channel.started({**describe(data, model, trainer), **loop, **(about or {})})
    if rank_count() > 1:
        join_process_group(config["trainer"]["accelerator"])
    began = time.perf_counter()
    try:
        with refusals_of(package):
            trainer.fit(model, datamodule=adapted(data, package))
            if averaged_after_validation(trainer, model):
                _report_average(trainer, model, data, tracker)
        seconds = time.perf_counter() - began
        load_state(model, tracker.best_weights())
    except BaseException as error:
        finish_loggers(trainer, failed=not isinstance(error, TrialPruned))
        raise
    return Fitted(model=model, data=data, trainer=trainer, seconds=seconds)


def _report_average(
    trainer: pl.Trainer, model: pl.LightningModule, data: pl.LightningDataModule, tracker: BestEpochTracker[State]
) -> None:
    """Validate averaged weights as one more epoch, which may be the best."""
    moment = Moment(epoch=trainer.current_epoch + 1, step=trainer.global_step)
    metrics = _by_loader(trainer.validate, trainer, model, data)
    tracker.report(moment, metrics, lambda: state_of(model))


def configure_torch(config: Mapping[str, Any]) -> None:
    """Set the process's number of threads, and the precision of float32 matrix products."""
    torch.set_num_threads(config["threads"])
    torch.set_float32_matmul_precision(
        config.get("matmul_precision", "highest")
    )  # older recorded configs lack this key


def build_data(config: Mapping[str, Any]) -> pl.LightningDataModule:
    """Build the data module; each source is read once per process."""
    data: pl.LightningDataModule = build(config["data"])
    if base_of(type(data), "LightningDataModule") is None:
        raise ConfigError(f"data._target_: {config['data']['_target_']} is not a LightningDataModule; name one that is")
    return data


def build_model(config: Mapping[str, Any], data: pl.LightningDataModule) -> pl.LightningModule:
    """Build the model with those of the data's spec, the optimizer and the scheduler that its constructor accepts.

    A key of the model's own config has precedence over them. The target may return a module that torch.compile wraps.
    """
    target = config["model"]["_target_"]
    offered = {
        "spec": getattr(data, "spec", None),
        "optimizer": build(config["optimizer"]),
        "scheduler": build(config["scheduler"]) or None,
    }
    signature = signature_of(target, "model")
    accepted = set(signature.parameters) if signature else set()
    # A partial, called here: Hydra would take keyword arguments for config and convert them.
    make = build({**config["model"], "_partial_": True})
    built = make(**{name: value for name, value in offered.items() if name in accepted - config["model"].keys()})
    model: pl.LightningModule = uncompiled(built)
    if base_of(type(model), "LightningModule") is None:
        raise ConfigError(f"model._target_: {target} is not a LightningModule; name one that is")
    if built is not model:
        package_of(model).utilities.compile.from_compiled(built)
    return model


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
    """Return a trial's costs; `seconds` only if they are an objective, since they differ each time."""
    timed = any(objective.name == "cost/seconds" for objective in objectives)
    return {"cost/params": float(parameter_count(model, trainable=True))} | ({"cost/seconds": seconds} if timed else {})


def check_test_part(data: pl.LightningDataModule) -> None:
    """Refuse data without a test part, before anything is trained. Raises ConfigError."""
    if isinstance(data, InMemoryDataModule) and not data.sizes["test"]:
        raise ConfigError("test: the data has no test part; set data.test_fraction, or test=false")


def evaluate(trainer: pl.Trainer, model: pl.LightningModule, data: pl.LightningDataModule) -> dict[str, float]:
    """Measure the model on the test part."""
    return _by_loader(trainer.test, trainer, model, data)


def _by_loader(
    measure: Callable[..., Sequence[Mapping[str, float]]], trainer: pl.Trainer, model: pl.LightningModule,
    data: pl.LightningDataModule,
) -> dict[str, float]:  # fmt: skip
    """Return the metrics of a part of the data, which may have several dataloaders."""
    measured = measure(model, datamodule=adapted(data, package_of(model)), verbose=False)
    return mean_metrics(trainer, {name: value for metrics in measured for name, value in metrics.items()})


def describe(data: pl.LightningDataModule, model: pl.LightningModule, trainer: pl.Trainer) -> dict[str, Any]:
    """Return what is known of a trial once it is built: the data, the device, the model's size if it has all layers."""
    about: dict[str, Any] = {
        "device": _devices(trainer),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "determinism": determinism(),
    }
    if not builds_later(model):
        about["parameters"] = parameter_count(model)
    if trainer.strategy.root_device.type == "cuda":
        about["cuda"] = _cuda_versions()
    if isinstance(data, InMemoryDataModule):
        about |= {"data": data.spec.name, "digest": data.digest, "sizes": dict(data.sizes)}
        about |= {"columns": list(data.source.notes)} if data.source.notes else {}
    return about


def _devices(trainer: pl.Trainer) -> str:
    devices = getattr(trainer.strategy, "parallel_devices", None) or [trainer.strategy.root_device]
    names = Counter(
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({processor_name()})"
        for device in devices
    )
    return " + ".join(name if count == 1 else f"{count} x {name}" for name, count in names.items())


def determinism() -> dict[str, bool | str]:
    """Return the settings of this process that determine whether a computation is reproducible to the last bit."""
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
    }


@lru_cache
def _cuda_versions() -> dict[str, str]:
    """Return the versions of CUDA and cuDNN that torch ships, and of the driver, if known."""
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    versions_of = {"cuda": torch.version.cuda, "cudnn": cudnn, "driver": nvidia_driver()}
    return {name: str(version) for name, version in versions_of.items() if version is not None}


@lru_cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    result = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):  # torchvision is optional
            result[package] = metadata.version(package)
    return result
