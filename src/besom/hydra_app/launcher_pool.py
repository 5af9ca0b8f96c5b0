"""A pool on another Hydra launcher, such as joblib or submitit, which runs jobs in batches.

A launcher returns when the last job of a batch is over, and reports nothing before: there is no pruning, and all slots
wait for the slowest job of a batch.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from types import TracebackType
from typing import Any, Self

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from besom.errors import ConfigError, kind_and_line
from besom.hydra_app.job import keep_hydra_files, pack_job, plain_config, read_values
from besom.hydra_app.sending.launched_task import LaunchedTask, take_sources
from besom.secrets.masks import masked_override
from besom.training.progress import Channel
from besom.workers.devices import Device, Slot
from besom.workers.messages import Assignment, Bundle, Failure, Finished, Started, State, TrialResult
from besom.workers.pool import Event
from besom.workers.worker import finish

BATCH = 2
"""The default of `n_jobs`, the number of jobs in a batch, as in hydra-optuna-sweeper."""

_BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


_OF_WORKERS: Mapping[str, Any] = {
    "devices": "auto", "trials_per_device": 1, "devices_per_trial": 1, "threads_per_trial": None,
    "max_trials_per_worker": None, "trial_timeout": None,
}  # fmt: skip
"""The keys of the sweeper that only Besom's own workers can follow, with the values that ask for nothing."""


def check_keys(sweeper: DictConfig, source: str) -> None:
    """Refuse the keys of `hydra.sweeper` that another launcher cannot follow. Raises ConfigError naming the first."""
    for key, usual in _OF_WORKERS.items():
        if sweeper.get(key, usual) != usual:
            raise ConfigError(
                f"{source}: hydra.sweeper.{key}: with hydra/launcher, the launcher runs the jobs; use its own keys, "
                "hydra.launcher.…, and leave this one out"
            )


def uses_launcher(config: DictConfig) -> bool:
    """Return whether the config chooses another launcher than Hydra's basic one."""
    return bool(config.hydra.launcher._target_ != _BASIC)


class LauncherPool:
    """A pool whose jobs a Hydra launcher runs: `submit` collects jobs, `events` launches the collected batch.

    `metrics` are the names of the values that a job returns.
    """

    def __init__(self, launcher: Launcher, slots: Sequence[Slot], *, metrics: Sequence[str]) -> None:
        self._launcher = launcher
        self._slots = tuple(slots)
        self._metrics = tuple(metrics)
        self._collected: dict[Slot, Bundle] = {}

    @classmethod
    def of(
        cls,
        context: HydraContext,
        config: DictConfig,
        task_function: TaskFunction,
        *,
        n_jobs: int | None,
        metrics: Sequence[str],
    ) -> LauncherPool:
        """Build the pool for the launcher that the config chooses."""
        from hydra.core.plugins import Plugins

        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=LaunchedTask(task_function), config=config
        )
        chosen = config.hydra.runtime.choices.get("hydra/launcher")
        device = Device(kind="cpu", name=f"hydra/launcher={chosen}")
        slots = [Slot(index=index, devices=(device,)) for index in range(n_jobs or BATCH)]
        return cls(launcher, slots, metrics=metrics)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots, one for each job of a batch."""
        return self._slots

    def idle(self) -> list[Slot]:
        """Return the slots without a job in the next batch."""
        return [slot for slot in self._slots if slot not in self._collected]

    @property
    def reports(self) -> bool:
        """False: a launcher returns when the jobs of a batch are over."""
        return False

    def log(self, slot: Slot) -> None:
        """Return None: a launcher decides where the output goes."""

    def is_ready(self, slot: Slot) -> bool:
        """Return False: a launcher does not report when a job starts."""
        return False

    def submit(self, slot: Slot, bundle: Bundle) -> None:
        """Add a job to the next batch."""
        self._collected[slot] = bundle

    def stop(self, slot: Slot, trial: int, *, at_once: bool) -> None:
        """Do nothing: a launched job cannot be stopped."""

    def replace(self, slot: Slot) -> None:
        """Do nothing: a launcher manages its own processes."""

    def close(self) -> None:
        """Drop the jobs that were not launched."""
        self._collected.clear()

    def events(self, *, timeout_s: float) -> Iterator[Event]:
        """Launch the collected jobs, wait for all of them, and yield their events; `timeout_s` is ignored."""
        assignments = [assignment for bundle in self._collected.values() for assignment in bundle.assignments]
        assignments.sort(key=lambda assignment: assignment.trial)
        # A launcher numbers the jobs of a batch consecutively; the numbers of resumed trials may have gaps.
        for _, chunk in groupby(enumerate(assignments), lambda pair: pair[1].trial - pair[0]):
            yield from self._launch([assignment for _, assignment in chunk])
        self._collected.clear()

    def _launch(self, batch: Sequence[Assignment]) -> Iterator[Event]:
        began = time.perf_counter()
        try:
            jobs = self._launcher.launch([assignment.overrides for assignment in batch], initial_job_idx=batch[0].trial)
        except Exception as error:  # of the launcher, or in composing a job: there are no returns
            failure = Failure(reason=kind_and_line(error), traceback=traceback.format_exc()).without_secrets()
            result = TrialResult(
                state=State.FAIL, failure=failure, duration_s=time.perf_counter() - began, ended_s=time.time()
            )
            for assignment in batch:
                yield Finished(trial=assignment.trial, result=result)
            return
        duration_s = time.perf_counter() - began
        for assignment, job in zip(batch, jobs, strict=True):
            yield from self._events_of(assignment, job, duration_s)

    def _events_of(self, assignment: Assignment, job: JobReturn, duration_s: float) -> Iterator[Event]:
        if job.cfg is not None and job.hydra_cfg is not None:
            keep_hydra_files(job.cfg, job.hydra_cfg, assignment.directory)
            output = job.hydra_cfg.hydra.runtime.output_dir
            about = {"config": _config(job), "output": masked_override(output)}
            yield Started(
                trial=assignment.trial, about=about, began_s=time.time() - duration_s, sources=take_sources(output)
            )

        def run(_: Assignment, __: Channel) -> TrialResult:
            if job.status is not JobStatus.COMPLETED:
                raise job._return_value
            return TrialResult(values=read_values(job.return_value, self._metrics), job=pack_job(job))

        result = finish(run, assignment, _NoChannel()).result
        # This process is no worker, and a launcher may run the job on another machine.
        yield Finished(trial=assignment.trial, result=replace(result, duration_s=duration_s, worker=None, host=None))


class _NoChannel:
    """A no-op channel, for a job that is over."""

    def started(self, about: object) -> None:
        """Do nothing."""

    def report(self, moment: object, metrics: object) -> None:
        """Do nothing."""

    def log(self, log: object) -> None:
        """Do nothing."""

    def should_stop(self, *, in_epoch: bool) -> bool:
        """Return False: the job is over."""
        return False


def _config(job: JobReturn) -> dict[str, object]:
    """Return the job's config, with references to Hydra's own config resolved."""
    hydra = HydraConfig.instance()
    before = hydra.cfg
    try:
        hydra.cfg = job.hydra_cfg  # type: ignore[assignment]
        assert job.cfg is not None
        return plain_config(job.cfg)
    finally:
        hydra.cfg = before
