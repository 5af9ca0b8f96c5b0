"""The app that a sweep runs: the interface, and its implementation for Besom's own configs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import optuna
from hydra.types import HydraContext
from omegaconf import DictConfig

from besom.config.checks import check, folds_of, recordable, require_groups, resolved, tuning_of
from besom.config.snapshot import Snapshot, snapshot
from besom.config.targets.model_keys import keys_for_model
from besom.config.tuning import check_sampled
from besom.config.units import Unit, axis_of, limit_of
from besom.errors import ConfigError, DeviceError
from besom.reports.read.summary import Summary
from besom.sweep.compose import Composer
from besom.sweep.dry_run.inspection import inspect_modules, names_others
from besom.sweep.fidelity import with_resources
from besom.sweep.finalists.choose import Configs, FinalistJobs, Missing, check_finalists
from besom.sweep.finalists.other_configs import OtherConfigs
from besom.sweep.request import SweepRequest
from besom.sweep.spec_parts import DevicesSpec
from besom.sweep.study.config import shared_by
from besom.sweep.study.study import StudyBook
from besom.sweep.trials.jobs import Jobs, TrainingJobs
from besom.system.console import plain_console
from besom.tracking.recorder.recorder import Recorder
from besom.tracking.store import Location
from besom.tracking.ui.views import wanted
from besom.workers.devices import Slot, find_slots
from besom.workers.pool import Launcher, Pool, WorkerPool
from besom.workers.tasks import Task, Training

Chooser = Callable[[Configs[Any]], Missing[Any]]
"""Chooses the finalists, and returns their missing runs."""


class App(Protocol):
    """The interface of an app under a sweep: `kind` is `besom` for Besom's own configs, `hydra` for any other app."""

    kind: str
    request: SweepRequest

    @property
    def location(self) -> Location:
        """The location of the tracking store and of the sweep's files."""

    @property
    def chooses(self) -> bool:
        """True if anything is sampled; otherwise there is one job and no study."""

    @property
    def axis(self) -> Unit:
        """The axis by which a trial's metrics are recorded."""

    @property
    def fidelity(self) -> Unit:
        """The unit in which the pruner counts."""

    def limit(self, unit: Unit) -> int | None:
        """Return how many units a whole trial has, None if unknown."""

    @property
    def composer(self) -> Composer:
        """The composer of trials' configs."""

    def snapshot(self, folder: Path) -> AbstractContextManager[Snapshot]:
        """Return a context manager that freezes the config files as they are now; `folder` receives copies."""

    def pool(self, logs: Path) -> Pool:
        """Return the pool that runs the trials, a context manager; workers log to the folder `logs`."""

    def described(self) -> Mapping[str, Any]:
        """Return facts about the app that its study keeps, as JSON-serializable values."""

    def recorder(self) -> Recorder:
        """Return the recorder of the runs."""

    def jobs(self, tags: Mapping[str, str]) -> Jobs:
        """Return the jobs, which prepare trials for workers; all runs get these tags."""

    def finalist_jobs(
        self, recorder: Recorder, book: StudyBook, chosen: Chooser, tags: Mapping[str, str], *, number: int
    ) -> tuple[Missing[Any], Jobs]:
        """Return the missing runs of finalists, as `chosen` from configs, and the jobs that prepare them.

        `number` is that of the sweep's config in the study.
        """

    def check_config(self, config: DictConfig) -> None:
        """Raise ConfigError for a composed config that cannot be run."""

    def check(self) -> None:
        """Raise ConfigError for a sweep whose trials would fail because of their configs."""

    def inspect(self) -> list[str]:
        """Return the errors in the code that the configs name, as far as they can be found."""

    def shared(self) -> dict[str, Any]:
        """Return the flattened config that all trials have in common, without the sampled keys."""

    def run_once(self, pool: Pool, scratch: Path) -> Sequence[Sequence[Any]]:
        """Run the only job of an app of which nothing is sampled, and return the result for Hydra."""

    def save_results(self, study: optuna.Study, summary: Summary) -> None:
        """Write the files that users of Hydra's sweepers expect."""

    def results(self) -> Sequence[Sequence[Any]]:
        """Return the results of the finished sweep for Hydra."""


class TrainingApp:
    """Besom's own configs: trials of `conf/train.yaml`."""

    kind = "besom"
    chooses = True

    def __init__(
        self,
        config: DictConfig,
        context: HydraContext,
        request: SweepRequest,
        launcher: Launcher,
    ) -> None:
        spec, space = request.spec, request.space
        require_groups(config, spec.source)
        if space.is_empty:
            raise ConfigError(
                f"{spec.source}: hydra.sweeper.params: there is nothing to choose from; add a parameter, "
                "such as optimizer.lr: tag(log, interval(1e-4, 1e-1))"
            )
        self.location = Location.of(config.tracking)
        self.composer = Composer(context.config_loader, config, request.line)
        self._loader = context.config_loader
        self._config = config
        self._space = space
        if spec.search.fidelity is Unit.STEP:
            pruner = with_resources(spec.search.pruner, self._example, spec.source, sampled=space.keys)
            spec = replace(spec, search=replace(spec.search, pruner=pruner))
        self.request = replace(request, spec=spec)
        self._spec = spec
        self._launcher = launcher

    @property
    def axis(self) -> Unit:
        """The axis by which a trial's metrics are recorded; if it is sampled, that of one trial."""
        return axis_of(self._example, self._spec.search.fidelity)

    @property
    def fidelity(self) -> Unit:
        """The unit in which the pruner counts."""
        return Unit.FOLD if self.axis is Unit.FOLD else self._spec.search.fidelity

    def limit(self, unit: Unit) -> int | None:
        """Return how many units a whole trial has; None if it is unknown or sampled."""
        return limit_of(self._example, unit, sampled=self._space.keys)

    @cached_property
    def _example(self) -> DictConfig:
        """The config of a trial, or that of the sweep if none can be composed, which `check` reports."""
        try:
            return self.composer.compose(next(iter(self._space.examples()), {}))
        except ConfigError:
            return self._config

    def snapshot(self, folder: Path) -> AbstractContextManager[Snapshot]:
        """Return a context manager that freezes the config files: all trials use them as they are now."""
        return snapshot(self._loader, folder)

    def pool(self, logs: Path) -> WorkerPool:
        """Return the pool of training workers."""
        return worker_pool(self._spec.devices, self._spec.budget.n_trials, Training(), logs, self._launcher)

    def described(self) -> Mapping[str, Any]:
        """Return nothing: the sweep's file is all that `besom best` needs."""
        return {}

    def recorder(self) -> Recorder:
        """Return the recorder, which records nothing for `tracking=none`."""
        tracking = self._config.tracking
        return Recorder(
            self.location if tracking.enabled else None,
            tracking.experiment or self._spec.study_name,
            views=wanted(tracking.get("views")),
        )

    def jobs(self, tags: Mapping[str, str]) -> Jobs:
        """Return the jobs, whose configs the parent process composes."""
        return TrainingJobs(
            self.composer,
            study_name=self._spec.study_name,
            tags=tags,
            fidelity=self._spec.search.fidelity,
            bundles=self._spec.devices.bundle != "off",
            own_models=isinstance(self._spec.devices.bundle, int),
        )

    def finalist_jobs(
        self, recorder: Recorder, book: StudyBook, chosen: Chooser, tags: Mapping[str, str], *, number: int
    ) -> tuple[Missing[Any], Jobs]:
        """Return the missing runs of finalists, and their jobs; another config of the study is read from its run."""
        finalists = self._spec.finalists
        assert finalists is not None
        configs = OtherConfigs(
            recorder, book, self._space, self.composer, overrides=finalists.overrides, number=number,
            shared=self.shared(),
        )  # fmt: skip
        runs = chosen(configs)
        return runs, FinalistJobs(
            self.composer, runs, study_name=self._spec.study_name, overrides=finalists.overrides, tags=tags,
            fidelity=self._spec.search.fidelity,
        )  # fmt: skip

    def check_config(self, config: DictConfig) -> None:
        """Raise ConfigError for a composed config that cannot be trained."""
        check(config)
        check_sampled(tuning_of(config), self._space.keys)
        if folds_of(config) is not None and self._spec.search.fidelity is not Unit.EPOCH:
            raise ConfigError(
                "hydra.sweeper.fidelity: with evaluation.folds, trials report folds; leave it out, or set "
                "evaluation.folds=null"
            )

    def check(self) -> None:
        """Compose every parameter and every choice once, so that a wrong key fails before anything is recorded.

        A worker imports the user's own modules once. Raises ConfigError.
        """
        for params in self._space.examples():
            try:
                self.check_config(self.composer.compose(params))
            except ConfigError as error:
                raise ConfigError(f"{self._spec.source}: {error}") from error
        check_finalists(self._spec, self._space, self.composer)
        for fault in self.inspect():
            raise ConfigError(f"{self._spec.source}: {fault}")

    def inspect(self) -> list[str]:
        """Return the errors in the user's own modules, one line each; a worker imports them.

        Among several models, each key has its effect on one of them.
        """
        configs, models, model_keys = [], set(), dict[str, None]()
        for params in self._space.examples(at_least_one=True):
            with suppress(ConfigError):  # `check` and the dry run report it
                config = self.composer.compose(params)
                models.add(str(config.model.get("_target_")))
                model_keys |= dict.fromkeys(keys_for_model((*self.request.line.fixed, *params), config))
                if names_others(config):
                    configs.append({**resolved(config), "test": self._spec.finalists is not None})
        keys = tuple(model_keys) if len(models) == 1 else ()
        return inspect_modules(configs, self._any_slot(), self._launcher, model_keys=keys) if configs else []

    def _any_slot(self) -> Slot:
        try:
            return find_slots(self._spec.devices.wanted, limit=1)[0]
        except DeviceError:  # a dry run may happen on a machine without the devices
            return find_slots("cpu", limit=1)[0]

    def shared(self) -> dict[str, Any]:
        """Return the flattened config without the sampled keys and without `tracking`."""
        return shared_by(self._space, self.composer, recordable, without="tracking")

    def run_once(self, pool: Pool, scratch: Path) -> Sequence[Sequence[Any]]:
        """Raise NotImplementedError: a sweep of Besom's own configs always samples something."""
        raise NotImplementedError

    def save_results(self, study: optuna.Study, summary: Summary) -> None:
        """Do nothing: the results are recorded in MLflow and in the study."""

    def results(self) -> Sequence[Sequence[Any]]:
        """Return nothing: the results are recorded in MLflow and in the study."""
        return []


def worker_pool(devices: DevicesSpec, n_trials: int | None, task: Task, logs: Path, launcher: Launcher) -> WorkerPool:
    """Return a pool with workers on every device that the sweep may use, no more than can be busy at once."""
    console = plain_console()
    slots = find_slots(
        devices.wanted,
        per_device=devices.per_device,
        per_trial=devices.per_trial,
        limit=min((limit for limit in (devices.n_jobs, n_trials) if limit), default=None),
        threads=devices.threads_per_trial,
        share_cores=devices.share_cores,
        notice=lambda line: console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True),
    )
    return WorkerPool(slots, task, logs=logs, launcher=launcher, max_trials=devices.max_trials_per_worker)
