"""Sweeps with fake workers and a real MLflow store."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState

from besom.sweep.compose import Composer
from besom.sweep.loop import UNWRITTEN, SweepLoop
from besom.sweep.progress.events import StopRequested, SweepEvent
from besom.sweep.space.constraints import parse_constraints
from besom.sweep.space.parser import SpaceParser
from besom.sweep.study.recovery import adopt_recorded
from besom.sweep.study.study import finished_trials, open_study
from besom.sweep.trials.jobs import TrainingJobs
from besom.tracking.recorder.recorder import Recorder
from besom.tracking.store import Location
from besom.workers.devices import Slot
from besom.workers.messages import Assignment, Message, Reported
from besom.workers.pool import WorkerPool
from besom.workers.tasks import Training
from tests.conftest import App
from tests.fakes import (
    FakeLauncher,
    ListeningObserver,
    Play,
    cpu_slots,
    finishing,
    reported,
    started,
)
from tests.sweep.specs import members_of

PATIENCE_S = 20  # for other threads; a test waits that long only if it fails


@dataclass
class Sweep:
    """A study in a temporary folder, whose loop can be run repeatedly."""

    app: App
    make_spec: Callable[..., Any]
    location: Location
    params: dict[str, str]
    tracked: bool = True
    slots: list[Slot] | None = None
    recorder: Recorder | None = None

    def run(
        self, play: Play, *, slots: int = 2, ready: bool = True, observer: ListeningObserver | None = None,
        unwritten: int = UNWRITTEN, **spec: Any,
    ) -> ListeningObserver:  # fmt: skip
        self.launcher = FakeLauncher(play, ready=ready)
        self.observer = observer or ListeningObserver()
        wanted = self.make_spec(**spec)
        space, fixed = SpaceParser(self.app[0], source="digits.yaml").space(self.params, {})
        composer = Composer(*self.app, fixed=fixed)
        directory = self.location.directory
        bundles = wanted.devices.bundle != "off"
        recorder = self.recorder or Recorder(self.location if self.tracked else None, "digits")
        pool = WorkerPool(
            self.slots or cpu_slots(slots), Training(), logs=directory / "logs", launcher=self.launcher,
            max_trials=wanted.devices.max_trials_per_worker,
        )  # fmt: skip
        with pool, recorder, open_study(wanted, space, directory) as book:
            if self.tracked:
                recorder.open_study("digits", token="digits", tags={"besom.kind": "study"}, note="")
            book.enqueue(wanted.search.enqueue)
            adopt_recorded(recorder, book, wanted.search)
            self.loop = SweepLoop(
                spec=wanted,
                book=book,
                jobs=TrainingJobs(
                    composer, study_name="digits", tags={"besom.study": "digits"}, fidelity=wanted.search.fidelity,
                    bundles=bundles,
                ),
                pool=pool,
                recorder=recorder,
                observer=self.observer,
                scratch=directory / "scratch",
                constraints=parse_constraints(wanted.search.constraints, "digits.yaml"),
                members=members_of(wanted, pool.slots),
                unwritten=unwritten,
            )  # fmt: skip
            self.loop.run()
        return self.observer

    @property
    def study(self) -> optuna.Study:
        return optuna.load_study(study_name="digits", storage=f"sqlite:///{self.location.directory / 'optuna.db'}")

    def states(self) -> list[str]:
        """Return the states of the finished trials by number."""
        assert TrialState.RUNNING not in [trial.state for trial in self.study.trials]
        return [trial.state.name for trial in finished_trials(self.study)]

    def runs(self) -> dict[int, Run]:
        """Return MLflow's runs by trial number."""
        client = MlflowClient(self.location.uri)
        experiment = client.get_experiment_by_name("digits")
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        assert all(run.info.status != "RUNNING" for run in runs if "besom.trial" in run.data.tags)
        return {int(run.data.tags["besom.trial"]): run for run in reversed(runs) if "besom.trial" in run.data.tags}

    def all_runs(self) -> list[Run]:
        """Return the runs of all attempts at the trials, the oldest first."""
        client = MlflowClient(self.location.uri)
        experiment = client.get_experiment_by_name("digits")
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        return [run for run in reversed(runs) if "besom.trial" in run.data.tags]

    def artifacts(self, trial: int) -> dict[str, str]:
        """Return the text artifacts of a trial's run."""
        client = MlflowClient(self.location.uri)
        run_id = self.runs()[trial].info.run_id
        paths = [file.path for file in client.list_artifacts(run_id) if file.path.endswith((".txt", ".yaml"))]
        return {path: Path(client.download_artifacts(run_id, path)).read_text() for path in paths}


def by_trial(plays: dict[int, Play], *, otherwise: Play = finishing) -> Play:
    return lambda assignment: plays.get(assignment.trial, otherwise)(assignment)


def epoch_after_epoch(assignment: Assignment) -> Iterator[Message]:
    yield started(assignment.trial)
    for epoch in range(PATIENCE_S * 100):
        yield reported(assignment.trial, epoch, val_acc=0.25)
        time.sleep(0.01)


def stuck(assignment: Assignment) -> Iterator[Message]:
    yield started(assignment.trial)
    yield reported(assignment.trial, 0, val_acc=0.25)
    threading.Event().wait(PATIENCE_S)


@dataclass
class Impatient(ListeningObserver):
    """Presses ctrl-C when a trial reports, `times` times, each time after the previous one was noticed."""

    trial: int = 0
    times: int = 1
    pressed: int = 0

    def __call__(self, event: SweepEvent) -> None:
        super().__call__(event)
        match event:
            case Reported(trial=trial) if trial == self.trial and not self.pressed:
                self.press()
            case StopRequested() if self.pressed < self.times:
                self.press()

    def press(self) -> None:
        self.pressed += 1
        signal.raise_signal(signal.SIGINT)


MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1}
