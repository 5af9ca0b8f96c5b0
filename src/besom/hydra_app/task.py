"""The task of a worker for any Hydra app: it runs the app's jobs one after the other.

The app is sent once, pickled: its task function may be defined in the main script or in a function, or be a callable
object.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from besom.config.messages import explain
from besom.errors import ConfigError, TrialFailed
from besom.hydra_app.job import about_job, keep_hydra_files, pack_job, read_values
from besom.hydra_app.relay import serve
from besom.hydra_app.report import UNNAMED, answer, reporting
from besom.hydra_app.sending.main_script import CommandLine
from besom.hydra_app.sending.pickled import NotPicklable, Pickled, is_picklable
from besom.training.progress import Channel
from besom.training.result import TrialResult
from besom.workers.messages import Assignment
from besom.workers.tasks import Run

_SPAWNING = ("ddp_spawn", "ddp_fork", "ddp_notebook")
"""Lightning's strategies that start their own processes also where ranks exist."""


@dataclass(frozen=True, kw_only=True)
class HydraTask:
    """A pickled Hydra app, whose jobs a worker runs.

    `metrics` are the names of the values that a job returns, in order; a number reported without a name is the first.
    Without metrics, or where they are `optional`, a job may return anything. A job that `spawns` starts a process for
    each of its devices itself.
    """

    app: Pickled
    command: CommandLine
    metrics: tuple[str, ...]
    optional: bool = False
    spawns: bool = False

    @classmethod
    def of(
        cls,
        context: HydraContext,
        config: DictConfig,
        task_function: TaskFunction,
        *,
        metrics: Sequence[str],
        optional: bool = False,
    ) -> HydraTask:
        """Pickle an app, with the arguments that Hydra passes to a sweeper.

        Raises ConfigError when a part of the app cannot be pickled.
        """
        from hydra.core.singleton import Singleton

        try:
            # A callback that cannot be pickled is made again in each worker.
            callbacks = context.callbacks if is_picklable(context.callbacks) else None
            app = Pickled.of(task_function, context.config_loader, callbacks, config, Singleton.get_state())
        except NotPicklable as error:
            raise ConfigError(f"{config.hydra.job.name}: {error}") from error
        strategy = str(OmegaConf.select(config, "trainer.strategy", throw_on_resolution_failure=False))
        return cls(
            app=app,
            command=CommandLine.of(config),
            metrics=tuple(metrics),
            optional=optional,
            spawns=strategy.startswith(_SPAWNING),
        )

    def load(self) -> Run:
        """Unpickle the app in a worker: import its modules and register its resolvers."""
        from hydra.core.singleton import Singleton

        task_function, loader, callbacks, config, state = self.app.load()
        Singleton.set_state(state)
        setup_globals()
        context = HydraContext(config_loader=loader, callbacks=callbacks or Callbacks(config))
        serve(answer)

        def run(assignment: Assignment, channel: Channel) -> TrialResult:
            self.command.install(assignment.overrides)
            job = _Job(assignment, channel, task_function, metric=next(iter(self.metrics), UNNAMED))
            returned = job.run(context, config)
            if returned.status is JobStatus.FAILED:
                raise returned._return_value  # its property would write to stderr, even for a pruned job
            values = read_values(returned.return_value, self.metrics, optional=self.optional)
            return TrialResult(values=values, job=pack_job(returned), ignored_stop=job.ignored_stop)

        return run


class _Job:
    """One job of the app: Hydra calls it as the task function, and it reports to the sweep."""

    def __init__(self, assignment: Assignment, channel: Channel, task_function: TaskFunction, *, metric: str) -> None:
        self._assignment = assignment
        self._channel = channel
        self._task_function = task_function
        self._metric = metric
        self.ignored_stop = False

    def run(self, context: HydraContext, sweep_config: DictConfig) -> JobReturn:
        """Compose the job's config and run it as Hydra's basic launcher does."""
        number = self._assignment.trial
        os.environ.update(self._assignment.variables)
        if uri := self._assignment.variables.get("BESOM_TRACKING_URI"):
            os.environ.setdefault("MLFLOW_TRACKING_URI", uri)
        try:
            config = context.config_loader.load_sweep_config(sweep_config, list(self._assignment.overrides))
        except HydraException as error:
            raise ConfigError(explain(error)) from error
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        try:
            return run_job(
                hydra_context=context,
                config=config,
                task_function=self,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        except SystemExit as error:
            raise TrialFailed(f"the job called sys.exit({error.code!r}); return a value instead") from error

    def __call__(self, config: DictConfig) -> Any:
        hydra_config: Any = HydraConfig.instance().cfg
        keep_hydra_files(config, hydra_config, self._assignment.directory)
        self._channel.started(about_job(config))
        with reporting(self._channel, metric=self._metric) as job:
            returned = self._task_function(config)
        self.ignored_stop = job.was_stopped
        return returned

    def __getattr__(self, name: str) -> Any:
        # For callbacks that use attributes of the task function, such as its name.
        return getattr(self.__dict__["_task_function"], name)
