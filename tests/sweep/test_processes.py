"""Whole sweeps as a user starts them, with real worker processes and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Run

from besom.sweep.study.study import finished_trials
from besom.tracking.store import Location
from tests.forking import Forked

T = TypeVar("T")

ONE_SLOT = "hydra.sweeper.n_jobs=1"

# Trials wait in their first epoch until the gate is open, so that a test can act on running trials.
GATED = """
import os, time
from pathlib import Path
from besom.models import MLPClassifier

class Gated(MLPClassifier):
    def on_train_epoch_start(self):
        Path(f"waiting-{os.getpid()}").touch()
        while not Path("gate").exists():
            time.sleep(0.02)
"""
SWEEP = """
defaults:
  - train
  - override data: digits
  - override trainer: cpu
  - override hydra/sweeper: besom
  - _self_
objective: val/acc
direction: maximize
model: {_target_: gated.Gated, width: 8, depth: 1}
trainer: {max_epochs: 2}
hydra:
  sweeper:
    n_trials: 3
    n_jobs: 2
    params: {optimizer.lr: "tag(log, interval(1e-3, 1e-1))"}
"""


def eventually(look: Callable[[], T], *, within_s: float = 90.0) -> T:
    """Wait until `look` returns something, and return that."""
    end = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Command:
    """`besom sweep gated.yaml` in a folder, and its recorded runs."""

    def __init__(self, folder: Path, location: Location) -> None:
        self._folder = folder
        self._location = location
        self._processes: list[Forked[str]] = []

    def start(self, *overrides: str) -> Forked[str]:
        process = Forked[str](
            [sys.executable, "-m", "besom.cli", "sweep", "gated.yaml", *overrides],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": f"{self._folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a new process group, as in a terminal
        )
        self._processes.append(process)
        return process

    def complete(self, *overrides: str) -> str:
        """Run the command to its end and return what it printed."""
        process = self.start(*overrides)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        return output

    def await_trials_at_the_gate(self, count: int) -> list[int]:
        """Wait until this many trials are in an epoch, and return their workers; runs are RUNNING even before that."""
        workers = self.await_workers_at_the_gate(count)
        eventually(lambda: self.statuses()["RUNNING"] == count)
        return workers

    def await_workers_at_the_gate(self, count: int) -> list[int]:
        """Wait until this many worker processes are at the gate, and return them."""
        eventually(lambda: len(list(self._folder.glob("waiting-*"))) == count)
        return sorted(int(file.name.removeprefix("waiting-")) for file in self._folder.glob("waiting-*"))

    def open_gate(self) -> None:
        (self._folder / "gate").touch()

    def press(self, sweep: Forked[str], number: signal.Signals) -> None:
        """Send a signal as a terminal would, and wait until the sweep confirms the stop request."""
        before = self._log().count("asked to stop")
        os.killpg(sweep.pid, number)
        eventually(lambda: sweep.poll() is not None or before or self._log().count("asked to stop") > before)

    def _log(self) -> str:
        log = self._location.directory / "logs" / "gated" / "sweep.log"
        return log.read_text() if log.exists() else ""

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    @property
    def study(self) -> optuna.Study:
        return optuna.load_study(study_name="gated", storage=f"sqlite:///{self._location.directory / 'optuna.db'}")

    def client(self) -> MlflowClient:
        return MlflowClient(self._location.uri)

    def runs(self, *, parent: bool = False) -> list[Run]:
        """Return the runs of the trials, or those of the study and its finalists."""
        client = self.client()
        experiment = client.get_experiment_by_name("gated")
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        return [run for run in runs if ("besom.trial" in run.data.tags) is not parent]

    def finalists(self) -> list[Run]:
        """Return the runs of the finalists."""
        return [run for run in self.runs(parent=True) if run.data.tags["besom.kind"] == "finalist"]

    def history(self, run: Run, metric: str) -> list[Metric]:
        return list(MlflowClient(self._location.uri).get_metric_history(run.info.run_id, metric))

    def states(self) -> list[str]:
        """Return the states of Optuna's trials by number."""
        assert [trial.number for trial in self.study.trials] == list(range(len(self.study.trials)))
        return [trial.state.name for trial in self.study.trials]

    def statuses(self) -> Counter[str]:
        return Counter(run.info.status for run in self.runs())

    def outcomes(self) -> Counter[str]:
        """Return the states of Optuna's finished trials."""
        return Counter(trial.state.name for trial in finished_trials(self.study))


@pytest.fixture
def command(tmp_path: Path, location: Location) -> Iterator[Command]:
    (tmp_path / "gated.py").write_text(GATED)
    (tmp_path / "gated.yaml").write_text(SWEEP)
    command = Command(tmp_path, location)
    yield command
    command.close()


def test_a_worker_that_is_killed_costs_its_trial_alone(command: Command):
    sweep = command.start()
    victim, other = command.await_trials_at_the_gate(2)
    os.kill(victim, signal.SIGKILL)
    (failed,) = eventually(lambda: [run for run in command.runs() if run.info.status == "FAILED"])
    assert f"pid {victim}" in failed.data.tags["besom.reason"]
    assert "SIGKILL" in failed.data.tags["besom.reason"]
    assert alive(other)
    command.open_gate()
    output, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, output
    assert command.outcomes() == {"COMPLETE": 2, "FAIL": 1}
    assert command.statuses() == {"FINISHED": 2, "FAILED": 1}
    assert [run.info.status for run in command.runs(parent=True)] == ["FINISHED"]


def test_a_second_ctrl_c_ends_at_once_with_true_states_and_the_same_command_goes_on(command: Command):
    sweep = command.start()
    workers = command.await_trials_at_the_gate(2)
    command.press(sweep, signal.SIGINT)
    assert all(map(alive, workers))  # their epochs last while the gate is closed
    command.press(sweep, signal.SIGINT)
    output, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 130, output
    assert "the same command goes on from there" in output
    assert not any(map(alive, workers))
    assert command.statuses() == {"KILLED": 2}
    assert {run.data.tags["besom.state"] for run in command.runs()} == {"INTERRUPTED"}
    (parent,) = command.runs(parent=True)
    assert parent.info.status == "KILLED"
    assert command.outcomes() == {}
    assert {trial.state.name for trial in command.study.trials} == {"WAITING"}
    stopped = [trial.params for trial in command.study.trials]

    command.open_gate()
    assert "study gated" in command.complete()
    assert command.states() == ["COMPLETE"] * 3
    assert [trial.params for trial in command.study.trials][: len(stopped)] == stopped
    assert command.statuses() == {"KILLED": 2, "FINISHED": 3}
    (same,) = command.runs(parent=True)
    assert (same.info.run_id, same.info.status) == (parent.info.run_id, "FINISHED")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-C", "SIGTERM"])
def test_one_signal_lets_what_runs_finish_its_epoch(command: Command, number: signal.Signals):
    sweep = command.start(ONE_SLOT)
    (worker,) = command.await_trials_at_the_gate(1)
    command.press(sweep, number)
    assert alive(worker)
    command.open_gate()
    output, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 130, output
    assert not alive(worker)
    (run,) = command.runs()
    assert (run.info.status, run.data.tags["besom.state"]) == ("KILLED", "INTERRUPTED")
    assert [point.step for point in command.history(run, "val/acc")] == [0, 1]
    assert {trial.state.name for trial in command.study.trials} == {"WAITING"}


def test_a_parent_that_is_killed_takes_its_workers_along_and_the_same_command_goes_on(command: Command):
    sweep = command.start(ONE_SLOT)
    (worker,) = command.await_trials_at_the_gate(1)
    sweep.kill()
    eventually(lambda: not alive(worker), within_s=30)
    killed = command.study.trials
    assert {trial.state.name for trial in killed} == {"RUNNING"}

    command.open_gate()
    command.complete(ONE_SLOT)
    assert command.states() == ["COMPLETE"] * 3
    assert [trial.params for trial in command.study.trials][: len(killed)] == [trial.params for trial in killed]
    assert command.statuses() == {"KILLED": 1, "FINISHED": 3}
    (orphan,) = [run for run in command.runs() if run.info.status == "KILLED"]
    assert (orphan.data.tags["besom.state"], orphan.data.tags["besom.trial"]) == ("INTERRUPTED", "0")
    assert [run.info.status for run in command.runs(parent=True)] == ["FINISHED"]


FINALISTS = """
import os, time
from pathlib import Path
from besom.models import MLPClassifier

class Gated(MLPClassifier):
    def on_train_epoch_start(self):
        if self.trainer.datamodule.shuffle_seed:  # another seed than the trials'
            Path(f"waiting-{os.getpid()}").touch()
            while not Path("gate").exists():
                time.sleep(0.02)
"""


def test_finalists_go_on_after_their_parent_was_killed_and_the_winner_is_registered(command: Command, tmp_path: Path):
    (tmp_path / "gated.py").write_text(FINALISTS)
    finalists = "hydra.sweeper.finalists={top: 1, seeds: 2, overrides: {trainer.max_epochs: 1}, register: gated}"
    asked = ("hydra.sweeper.n_trials=1", finalists)
    sweep = command.start(*asked)
    (worker,) = command.await_workers_at_the_gate(1)
    (orphan,) = eventually(lambda: [run for run in command.finalists() if run.info.status == "RUNNING"])
    sweep.kill()
    eventually(lambda: not alive(worker), within_s=30)

    command.open_gate()
    output = command.complete(*asked)
    assert "comes first, with test/acc" in output
    assert command.states() == ["COMPLETE"]
    statuses = {run.info.run_id: run.info.status for run in command.finalists()}
    assert statuses.pop(orphan.info.run_id) == "KILLED"
    assert list(statuses.values()) == ["FINISHED"] * 2
    for run in command.finalists():
        if run.info.run_id in statuses:
            assert [point.step for point in command.history(run, "val/acc")] == [0, 1]
            assert "test/acc" in run.data.metrics
    (parent,) = [run for run in command.runs(parent=True) if run.data.tags["besom.kind"] == "study"]
    tested = [run.data.metrics["test/acc"] for run in command.finalists() if run.info.run_id in statuses]
    assert parent.data.metrics["test/acc"] == pytest.approx(sum(tested) / 2)
    winner = parent.data.tags["besom.winner_run"]
    assert winner in statuses
    assert f"models:/gated@champion, version 1: run {winner}" in output
    assert command.client().get_model_version_by_alias("gated", "champion").run_id == winner
