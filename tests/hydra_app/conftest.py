"""Other Hydra apps: a config folder, a task function, and a worker that runs its jobs."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from besom.config.hydra_versions import VERSION_BASE
from besom.hydra_app.task import HydraTask
from besom.workers.messages import Assignment, Bundle, Finished, Message, Reported, Started, TrialResult
from besom.workers.pool import WorkerPool
from tests.fakes import cpu_slots


@dataclass
class Job:
    """The messages of a worker about one job."""

    started: Started | None = None
    reported: list[Reported] = field(default_factory=list)
    result: TrialResult | None = None


@dataclass
class App:
    """An app with the arguments that Hydra passes to a sweeper."""

    context: HydraContext
    config: DictConfig
    folder: Path

    def task(self, function: Callable[..., Any], *, metrics: Sequence[str] = ("value",)) -> HydraTask:
        return HydraTask.of(self.context, self.config, function, metrics=metrics)

    @contextmanager
    def pool(self, function: Callable[..., Any], *, metrics: Sequence[str] = ("value",)) -> Iterator[WorkerPool]:
        task = self.task(function, metrics=metrics)
        with WorkerPool(cpu_slots(1), task, logs=self.folder / "logs") as pool:
            yield pool

    def run(
        self, function: Callable[..., Any], *overrides: Sequence[str], metrics: Sequence[str] = ("value",)
    ) -> list[Job]:
        """Run a job for each list of overrides, one after the other in one worker."""
        with self.pool(function, metrics=metrics) as pool:
            return [self.job(pool, number, lines) for number, lines in enumerate(overrides)]

    def job(
        self,
        pool: WorkerPool,
        number: int,
        overrides: Sequence[str],
        heard: Callable[[Reported], None] = lambda reported: None,
    ) -> Job:
        directory = self.folder / "scratch" / str(number)
        directory.mkdir(parents=True)
        assignment = Assignment(trial=number, directory=directory, overrides=tuple(overrides))
        pool.submit(pool.slots[0], Bundle(assignments=(assignment,)))
        job = Job()
        while job.result is None:
            for event in pool.events(timeout_s=60):
                self._note(job, event, heard)
        return job

    def _note(self, job: Job, event: Message, heard: Callable[[Reported], None]) -> None:
        match event:
            case Started():
                job.started = event
            case Reported():
                job.reported.append(event)
                heard(event)
            case Finished(result=result):
                job.result = result
            case _:
                assert type(event).__name__ == "Ready", event


CONFIG = """\
lr: 0.1
model:
  depth: 2
name: ${hydra:job.name}-${hydra:job.num}
"""


@pytest.fixture
def hydra_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., App]]:
    """Return a function that makes an app from a config; hydra.sweep.dir is `sweep` in the test's folder."""
    state = Singleton.get_state()

    def make(config: str = CONFIG, *overrides: str) -> App:
        conf = tmp_path / "conf"
        conf.mkdir(exist_ok=True)
        (conf / "config.yaml").write_text(textwrap.dedent(config), encoding="utf-8")
        where = f"hydra.sweep.dir={tmp_path / 'sweep'}"
        with initialize_config_dir(config_dir=str(conf), job_name="theirs", **VERSION_BASE):
            loader = GlobalHydra.instance().config_loader()
            loaded = loader.load_configuration("config", [where, *overrides], run_mode=RunMode.MULTIRUN)
        return App(HydraContext(config_loader=loader, callbacks=Callbacks()), loaded, tmp_path)

    monkeypatch.chdir(tmp_path)
    yield make
    Singleton.set_state(state)
