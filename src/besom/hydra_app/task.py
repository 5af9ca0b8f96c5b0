"""The task of a worker for any Hydra app: it runs the app's jobs one after the other.

The app is sent once, pickled by value: its task function may be defined in the main script or in a function, or be a
callable object.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from besom.config.messages import explain
from besom.errors import ConfigError, TrialFailed, first_line
from besom.hydra_app.job import about_job, keep_hydra_files, pack_job, read_values
from besom.hydra_app.report import UNNAMED, reporting
from besom.training.progress import Channel
from besom.training.result import TrialResult
from besom.workers.messages import Assignment
from besom.workers.sources import SOURCES
from besom.workers.tasks import Run


@dataclass(frozen=True, kw_only=True)
class HydraTask:
    """A pickled Hydra app, whose jobs a worker runs.

    `metrics` are the names of the values that a job returns, in order; a number reported without a name is the first.
    Without metrics, a job may return anything.
    """

    app: bytes
    path: tuple[str, ...]
    metrics: tuple[str, ...]

    @classmethod
    def of(
        cls, context: HydraContext, config: DictConfig, task_function: TaskFunction, *, metrics: Sequence[str]
    ) -> HydraTask:
        """Pickle an app, with the arguments that Hydra passes to a sweeper.

        Raises ConfigError when a part of the app cannot be pickled.
        """
        from hydra.core.singleton import Singleton

        try:
            app = cloudpickle.dumps(
                (context, config, task_function, Singleton.get_state(), _MainScript.of(task_function))
            )
        except Exception as error:
            raise ConfigError(
                f"{config.hydra.job.name}: the task function cannot be sent to a worker ({first_line(error)}); "
                "make what it uses inside of it, or import it from a module"
            ) from error
        # It has the folder of the main script, which is not on a worker's path.
        path = tuple(str(Path(entry or ".").absolute()) for entry in sys.path)
        return cls(app=app, path=path, metrics=tuple(metrics))

    def load(self) -> Run:
        """Unpickle the app in a worker: import its modules and register its resolvers."""
        from hydra.core.singleton import Singleton

        sys.path[:] = [*self.path, *(entry for entry in sys.path if entry not in self.path)]
        context, config, task_function, state, script = cloudpickle.loads(self.app)
        Singleton.set_state(state)
        setup_globals()
        if script is not None:
            script.install()

        def run(assignment: Assignment, channel: Channel) -> TrialResult:
            job = _Job(assignment, channel, task_function, metric=next(iter(self.metrics), UNNAMED))
            returned = job.run(context, config)
            if returned.status is JobStatus.FAILED:
                raise returned._return_value  # its property would write to stderr, even for a pruned job
            values = read_values(returned.return_value, self.metrics)
            return TrialResult(values=values, job=pack_job(returned))

        return run


class _Job:
    """One job of the app: Hydra calls it as the task function, and it reports to the sweep."""

    def __init__(self, assignment: Assignment, channel: Channel, task_function: TaskFunction, *, metric: str) -> None:
        self._assignment = assignment
        self._channel = channel
        self._task_function = task_function
        self._metric = metric

    def run(self, context: HydraContext, sweep_config: DictConfig) -> JobReturn:
        """Compose the job's config and run it as Hydra's basic launcher does."""
        number = self._assignment.trial
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
        finally:
            keep_hydra_files(config, self._assignment.directory)

    def __call__(self, config: DictConfig) -> Any:
        self._channel.started(about_job(config))
        with reporting(self._channel, metric=self._metric):
            return self._task_function(config)

    def __getattr__(self, name: str) -> Any:
        # For callbacks that use attributes of the task function, such as its name.
        return getattr(self.__dict__["_task_function"], name)


@dataclass(frozen=True, kw_only=True)
class _MainScript:
    """The definitions of an app's main script, so that `_target_: __main__.Model` works in the worker too."""

    file: str | None
    source: bytes | None
    names: Mapping[str, Any]

    @classmethod
    def of(cls, task_function: TaskFunction) -> _MainScript | None:
        """Return the main script, None if the task function is defined elsewhere."""
        if not _is_of_main_script(task_function):
            return None
        main = sys.modules["__main__"]
        defined = {
            name: value
            for name, value in vars(main).items()
            if isinstance(value, type | types.FunctionType) and value.__module__ == "__main__" and _is_picklable(value)
        }
        _, source = script_of(task_function) or (None, None)
        return cls(file=getattr(main, "__file__", None), source=source, names=defined)

    def install(self) -> None:
        """Replace `__main__` by the definitions of the script. Processes that the app spawns import its file."""
        main = types.ModuleType("__main__")
        vars(main).update(self.names)
        if self.file is not None:
            main.__file__ = str(Path(self.file).absolute())
            if self.source is not None:
                SOURCES.note(main.__file__, self.source)
        sys.modules["__main__"] = main


def script_of(task_function: TaskFunction) -> tuple[str, bytes] | None:
    """Return the path and the content of the main script, as it runs here; None if the task is defined elsewhere.

    Processes that start later get its definitions, whatever happens to the file.
    """
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None or not _is_of_main_script(task_function):
        return None
    with suppress(OSError):
        return str(Path(file).absolute()), Path(file).read_bytes()
    return None


def _is_of_main_script(task_function: TaskFunction) -> bool:
    while hasattr(task_function, "__wrapped__"):
        task_function = task_function.__wrapped__
    return getattr(task_function, "__module__", None) == "__main__"


def _is_picklable(value: type | Callable[..., Any]) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:  # any error, from any global; the task function may not need it
        return False
    return True
