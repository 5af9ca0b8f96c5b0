"""Besom's logger: `self.logger` of every trial, unless its config chooses others.

What it receives is recorded in the trial's own run. Lightning passes it what a module logs with `self.log(…)`: by step,
as often as `log_every_n_steps` says, and at the end of an epoch, where the trial's report has the same values already.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl

from besom.config.checks import flatten
from besom.training.lightning import Package, logged_by_step, logger_step
from besom.training.loggers.experiment import OWN_RUN, Experiment, not_offered
from besom.training.loggers.files import LoggedFiles, as_image
from besom.training.loggers.log import TrialLog


def besom_logger(log: TrialLog, package: Package, *, folder: Path, artifacts: Path) -> Any:
    """Return the logger of a package for a trial; its callback, `keeper`, goes into the trainer as well.

    `folder` holds the files of callbacks and loggers; what is logged as a file goes into `artifacts`.
    """
    return _logger_class(package)(log, package, folder, artifacts)


@cache
def _logger_class(package: Package) -> type:
    zero = package.loggers.logger.rank_zero_experiment  # on other ranks, an experiment that ignores every call
    experiment = property(zero(lambda logger: logger._experiment))
    return type("BesomLogger", (_BesomLogger, package.loggers.Logger), {"experiment": experiment})


class _BesomLogger:
    name = ""  # with these, a checkpoint without a folder of its own goes into the folder checkpoints
    version = ""
    run_id = OWN_RUN
    experiment: Experiment

    def __init__(self, log: TrialLog, package: Package, folder: Path, artifacts: Path) -> None:
        super().__init__()
        self._log = log
        self._folder = folder
        self._trainer: pl.Trainer | None = None
        self._experiment = Experiment(log, LoggedFiles(artifacts), self._step)
        self.at_an_end = False
        self.keeper: pl.Callback = _keeper_class(package.callbacks.Callback)(self)

    def __getattr__(self, name: str) -> NoReturn:
        not_offered(_BesomLogger, name, "self.logger")

    @property
    def save_dir(self) -> str:
        """The folder of the trial's files, which are recorded if the config's `artifacts` name them."""
        return str(self._folder)

    @property
    def root_dir(self) -> str:
        """The same."""
        return self.save_dir

    @property
    def log_dir(self) -> str:
        """The same, which exists: modules write into it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return str(self._folder)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Record metrics by step, by default that of the training; not what the trial's report has."""
        trainer = self._trainer
        if trainer is not None and self.at_an_end:
            metrics = {name: value for name, value in metrics.items() if name not in trainer.callback_metrics}
            if metrics.keys() <= {"epoch"}:
                return
        self._log.add(metrics, self._step() if step is None else step)

    def log_hyperparams(
        self, params: Mapping[str, Any] | Namespace, metrics: Mapping[str, Any] | None = None, step: int | None = None
    ) -> None:
        """Record as params what is a number, a text, a truth value or a list of them; `metrics` as by `log_metrics`."""
        given = vars(params) if isinstance(params, Namespace) else params
        flat = {name: value for name, value in flatten(given) if _is_plain(value)}
        self._log.describe(params=flat)
        if isinstance(metrics, Mapping):
            self.log_metrics(metrics, step)

    def log_image(self, key: str, images: Sequence[Any], step: int | None = None, **_: Any) -> None:
        """Write images by key and step, as W&B's logger takes them."""
        for image in images:
            self.experiment.log_image(as_image(image, "self.logger.log_image"), key=key, step=step)

    def complete(self, trainer: pl.Trainer, step: int) -> None:
        """Add the values at this step of what is logged by step, and pass everything on: a report is next."""
        logged = trainer.callback_metrics
        names = [name for name in logged_by_step(trainer) if name in logged and not self._log.has(name, step)]
        if names:
            self._log.add({**{name: logged[name] for name in names}, "epoch": trainer.current_epoch}, step)
        self._log.flush()

    def _step(self) -> int:
        return 0 if self._trainer is None else logger_step(self._trainer)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


@cache
def _keeper_class(base: type) -> type:
    return type("LogKeeper", (_LogKeeper, base), {})


class _LogKeeper:
    """Tells the logger where training is: at an end, where Lightning logs what the report has, or between steps."""

    def __init__(self, logger: _BesomLogger) -> None:
        self._logger = logger

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._logger._trainer = trainer

    def on_train_epoch_start(self, *_: Any) -> None:
        self._logger.at_an_end = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._logger.at_an_end = True
        self._logger.complete(trainer, max(0, logger_step(trainer) - 1))

    def on_validation_epoch_start(self, *_: Any) -> None:
        self._logger.at_an_end = False

    def on_validation_epoch_end(self, *_: Any) -> None:
        self._logger.at_an_end = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._logger.at_an_end = False
        if not trainer.sanity_checking:
            self._logger.complete(trainer, logger_step(trainer))

    def on_test_epoch_start(self, *_: Any) -> None:
        self._logger.at_an_end = False

    def on_test_epoch_end(self, *_: Any) -> None:
        self._logger.at_an_end = True
