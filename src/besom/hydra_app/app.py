"""Another Hydra app under Besom's sweeper: its tracking, its workers, and its results for Hydra."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from besom.config.checks import check_views
from besom.config.hydra_versions import is_hydras_main
from besom.config.snapshot import LAUNCHED_JOBS, THIS_SWEEP, Snapshot, snapshot
from besom.config.units import Unit
from besom.errors import BesomError, ConfigError, Interrupted, StoreError, one_of
from besom.hydra_app.finalists import HydraFinalistJobs, RecordedOverrides
from besom.hydra_app.jobs import HydraJobs
from besom.hydra_app.launcher_pool import LauncherPool, check_keys, uses_launcher
from besom.hydra_app.multirun import save_results
from besom.hydra_app.sending.main_script import app_name
from besom.hydra_app.single_job import run_single_job
from besom.hydra_app.task import HydraTask
from besom.reports.read.summary import Summary
from besom.secrets.masks import hidden_in, hidden_override
from besom.sweep.compose import Composer
from besom.sweep.finalists.choose import Missing, check_finalists
from besom.sweep.request import SweepRequest
from besom.sweep.study.config import shared_by
from besom.sweep.study.study import StudyBook, own_name
from besom.sweep.training_app import App, Chooser, TrainingApp, worker_pool
from besom.sweep.trials.jobs import Jobs
from besom.system.console import plain_console
from besom.system.urls import sqlite_file
from besom.tracking.app_command import AppCommand
from besom.tracking.recorder.recorder import Recorder
from besom.tracking.store import Location, connect, local_uri
from besom.tracking.tags import Tag
from besom.tracking.ui.views import wanted
from besom.workers.pool import Launcher, Pool, launch

FAILED, INTERRUPTED = 2, 130
_TRACKING = ("uri", "experiment", "directory", "views")


def swept_app(
    config: DictConfig,
    arguments: Sequence[str],
    context: HydraContext,
    task: TaskFunction,
    *,
    launcher: Launcher = launch,
) -> App:
    """Return the app to sweep: Besom's own configs, trained by its workers, or any other Hydra app.

    Raises ConfigError for a sweep that cannot run as written.
    """
    is_besom = trains_besom_config(task)
    name = None if is_besom else app_name(config.hydra.job.name, task)
    request = SweepRequest.read(config, arguments, context, app_name=name)
    if is_besom and not uses_launcher(config):
        return TrainingApp(config, context, request, launcher)
    if name is not None and config.hydra.sweeper.study_name is None and not request.space.is_empty:
        request = _with_own_study(request, config)
    return ForeignApp(config, context, task, request, launcher)


def _with_own_study(request: SweepRequest, config: DictConfig) -> SweepRequest:
    """Return the request with a study that no other sweep of the app has: Hydra users start many by one command."""
    spec = request.spec
    directory = _read_tracking(config.hydra.sweeper.tracking, spec.source).location.directory
    fixed = [hidden_override(override) for override in request.line.fixed]
    name = own_name(spec, request.space, fixed, directory)
    if name != spec.study_name:
        plain_console().print(
            f"study {spec.study_name} is of another sweep; this one has its own, {name}", highlight=False
        )
    return replace(request, spec=replace(spec, study_name=name))


def trains_besom_config(task: TaskFunction) -> bool:
    """Return whether a task function is that of `besom train` and `besom sweep`."""
    return bool(getattr(task, "trains_besom_config", False))


class ForeignApp:
    """Any Hydra app: a task function that returns a number, and the config that Hydra composed for it.

    `chooses` is true if anything is sampled; `metrics` are the names of the values that a job returns.
    """

    kind = "hydra"
    axis = fidelity = Unit.STEP  # the app's own

    def __init__(
        self,
        config: DictConfig,
        context: HydraContext,
        task_function: TaskFunction,
        request: SweepRequest,
        launcher: Launcher = launch,
    ) -> None:
        spec, space = request.spec, request.space
        if spec.finalists is not None and trains_besom_config(task_function):
            raise ConfigError(
                f"{spec.source}: hydra.sweeper.finalists: only besom sweep with its own workers has finalists; "
                "set it to null"
            )
        if spec.search.fidelity is not Unit.EPOCH:  # Besom's own configs with another launcher
            raise ConfigError(
                f"{spec.source}: hydra.sweeper.fidelity: with hydra/launcher nothing is reported while a trial trains; "
                "leave it out"
            )
        if uses_launcher(config):
            check_keys(config.hydra.sweeper, spec.source)
        self.request = request
        self._config = config
        self._context = context
        # Its loader is not the one that the snapshot lets read copies: a job may run where there are none.
        self._launched = HydraContext(config_loader=copy(context.config_loader), callbacks=context.callbacks)
        self._task_function = task_function
        self._spec = spec
        self._space = space
        self.composer = Composer(context.config_loader, config, request.line)
        self._launcher = launcher
        self._jobs: HydraJobs | None = None
        self._recorder: Recorder | None = None
        self._extra: tuple[str, ...] = ()
        if trains_besom_config(task_function):
            # With another launcher, each job records its own run, as `besom train` does, but without a test.
            self._tracking = Tracking(Location.of(config.tracking), enabled=False)
            self._extra = ("test=false",)
        else:
            self._tracking = _read_tracking(config.hydra.sweeper.tracking, spec.source)
        self.command = None if trains_besom_config(task_function) else AppCommand.of_this_process()
        self.chooses = bool(space.parameters) or space.custom is not None
        self.metrics = tuple(objective.name for objective in spec.search.objectives)

    @property
    def location(self) -> Location:
        """The location set by `hydra.sweeper.tracking`; by default mlruns/ in the working directory."""
        return self._tracking.location

    @cached_property
    def task(self) -> HydraTask:
        """The app, pickled for its workers."""
        optional = not self.chooses  # a single job may return anything
        return HydraTask.of(self._context, self._config, self._task_function, metrics=self.metrics, optional=optional)

    def limit(self, unit: Unit) -> int | None:
        """Return None: the app defines its steps."""
        return None

    def snapshot(self, folder: Path) -> AbstractContextManager[Snapshot]:
        """Freeze the config files as they are now; jobs of another launcher, maybe elsewhere, read the files anew."""
        read_by = LAUNCHED_JOBS if uses_launcher(self._config) else THIS_SWEEP
        return snapshot(self._context.config_loader, folder, read_by=read_by)

    def pool(self, logs: Path) -> Pool:
        """Return the pool of workers, or of another Hydra launcher if the config chooses one."""
        devices = self._spec.devices
        if uses_launcher(self._config):
            return LauncherPool.of(
                self._launched, self._config, self._task_function, n_jobs=devices.n_jobs,
                metrics=self.metrics if self.chooses else (),
            )  # fmt: skip
        return worker_pool(devices, self._spec.budget.n_trials, self.task, logs, self._launcher)

    @property
    def _tags(self) -> dict[str, str]:
        """The tags of every run of the app."""
        return {Tag.APP: json.dumps(self.command.words)} if self.command else {}

    def inspect(self) -> list[str]:
        """Return nothing: the targets in another app's config are not known."""
        return []

    def check_config(self, config: DictConfig) -> None:
        """Do nothing: the valid configs of another app are not known."""

    def described(self) -> Mapping[str, Any]:
        """Return how to start a job: the command, the primary config, and the overrides that choose from groups."""
        keys = dict.fromkeys(key.lstrip("+~") for key in (*self.request.line.order, *self._space.keys))
        groups = [key for key in keys if any(map(self.composer.chooses, (key, key.partition("@")[0])))]
        command = {"command": list(self.command.words)} if self.command else {}
        return {**command, "groups": groups, "config_name": self._config.hydra.job.config_name}

    def recorder(self) -> Recorder:
        """Return the recorder, which records nothing if the app does not enable tracking."""
        tracking = self._tracking
        if not tracking.enabled:
            _make_own_store()
        self._recorder = Recorder(
            tracking.location if tracking.enabled else None,
            tracking.experiment or self._spec.study_name,
            views=tracking.views,
        )
        return self._recorder

    def jobs(self, tags: Mapping[str, str]) -> HydraJobs:
        """Return the jobs, whose configs the workers compose."""
        assert self._recorder is not None
        self._jobs = HydraJobs(
            self.composer, study_name=self._spec.study_name, tags={**tags, **self._tags}, extra=self._extra,
            links=self._recorder.links(),
        )  # fmt: skip
        return self._jobs

    def run_once(self, pool: Pool, scratch: Path) -> Sequence[Sequence[Any]]:
        """Run the only job of an app of which nothing is sampled.

        Raises TrialFailed when it fails, Interrupted when the user stopped it.
        """
        overrides = (*self.composer.overrides({}), *self._extra)
        objectives, name = self._spec.search.objectives, self._spec.study_name
        with self.recorder() as recorder:
            recorder.keep_code()
            job, line = run_single_job(
                pool, recorder, name=name, overrides=overrides, directory=scratch / "0", tags=self._tags,
                objectives=objectives,
            )  # fmt: skip
            console = plain_console()
            console.print(line, highlight=False, markup=False, soft_wrap=True)
            if recorder.persists:
                console.print(f"run {recorder.run_id(0)}", highlight=False)
            return [[job]]

    def finalist_jobs(
        self, recorder: Recorder, book: StudyBook, chosen: Chooser, tags: Mapping[str, str], *, number: int
    ) -> tuple[Missing[Any], Jobs]:
        """Return the missing runs of finalists, and their jobs, which run from the overrides of their trials."""
        assert self._spec.finalists is not None
        runs = chosen(RecordedOverrides(book, self.composer, _as_written, number=number))
        name, tags = self._spec.study_name, {**tags, **self._tags}
        return runs, HydraFinalistJobs(self.composer, runs, self._spec.finalists, study_name=name, tags=tags)

    def check(self) -> None:
        """Compose every parameter and choice once, as far as that takes seconds: a wrong key fails before any job runs.

        Raises ConfigError.
        """
        for params in self.composer.at_first(self._space.examples()):
            try:
                self.composer.compose(params)
            except ConfigError as error:
                raise ConfigError(f"{self._spec.source}: {error}") from error
        check_finalists(self._spec, self._space, self.composer)

    def shared(self) -> dict[str, Any]:
        """Return the flattened config without the sampled keys, unresolved: only a job can resolve all of it."""
        return shared_by(self._space, self.composer, _as_written)

    def save_results(self, study: optuna.Study, summary: Summary) -> None:
        """Write the best parameters into the folder of the multirun."""
        save_results(self._config, study, self._space, summary)

    def results(self) -> Sequence[Sequence[Any]]:
        """Return Hydra's JobReturns of the jobs of this run, in batches."""
        return self._jobs.returns() if self._jobs is not None else []


def _as_written(config: DictConfig) -> dict[str, Any]:
    plain = hidden_in(OmegaConf.to_container(config, resolve=False, enum_to_str=True))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _make_own_store() -> None:
    """Make the SQLite store of an app's own runs, if it is known and new: two jobs that made it would race."""
    tracking = sys.modules.get("mlflow.tracking")  # if the app has imported MLflow, it may have set a store
    uri = os.environ.get("MLFLOW_TRACKING_URI") if tracking is None else str(tracking.get_tracking_uri())
    file = sqlite_file(uri) if uri else None
    if uri and file is not None and not file.exists():
        with suppress(StoreError):  # a job says so, if it uses the store
            connect(Location(uri=uri, directory=file.parent))


class Tracking:
    """The tracking of an app: the location of its study, and of its runs if it is enabled."""

    def __init__(self, location: Location, *, enabled: bool, experiment: str | None = None, views: bool = True) -> None:
        self.location = location
        self.enabled = enabled
        self.experiment = experiment
        self.views = views


def _read_tracking(node: Any, source: str) -> Tracking:
    """Read `hydra.sweeper.tracking`: null, true, or a mapping with uri, experiment, directory and views.

    Raises ConfigError for anything else.
    """
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, resolve=True)
    if node is None or node is False:
        mlruns = Path("mlruns").absolute()
        return Tracking(Location(uri=local_uri(mlruns), directory=mlruns), enabled=False)
    where = f"{source}: hydra.sweeper.tracking"
    if node is True:
        node = {}
    if not isinstance(node, dict):
        raise ConfigError(f"{where}: '{node}' is none of true, null and {{uri: …, experiment: …, directory: …}}")
    for key in node:
        if key not in _TRACKING:
            raise ConfigError(f"{where}: there is no key {key}; {one_of(str(key), _TRACKING)}")
    uri, directory = node.get("uri"), node.get("directory")
    if uri is None and directory is None:
        uri = os.environ.get("MLFLOW_TRACKING_URI")
    location = Location.of({"uri": uri, "directory": directory or "mlruns"})
    check_views(node.get("views"), f"{where}: views")
    return Tracking(location, enabled=True, experiment=node.get("experiment"), views=wanted(node.get("views")))


class SweepFailed(CompactHydraException):
    """A sweep that could not run or has no result, for code that calls Hydra; its message is one line."""


@contextmanager
def told_by_hydra() -> Iterator[None]:
    """Print a BesomError as one line and exit with code 2 on a command line; raise SweepFailed for any other caller.

    With HYDRA_FULL_ERROR=1, it is raised in both cases.
    """
    try:
        yield
    except Interrupted as error:
        if _is_command_line():
            raise SystemExit(INTERRUPTED) from error
        raise KeyboardInterrupt from error
    except BesomError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1" or not _is_command_line():
            raise SweepFailed(str(error)) from error
        sys.stderr.write(f"{error}\n")
        raise SystemExit(FAILED) from error
    except KeyboardInterrupt:  # before the first trial
        if _is_command_line():
            sys.stderr.write("stopped\n")
            raise SystemExit(INTERRUPTED) from None
        raise


def _is_command_line() -> bool:
    """Return whether Hydra's main function is a caller, which would print several lines and exit with code 1."""
    return any(is_hydras_main(frame) for frame, _ in traceback.walk_stack(None))
