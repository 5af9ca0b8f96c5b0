"""Sweeps whose workers and whose parent are killed at random moments, over and over."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState

from besom.tracking.store import Location
from tests.chaos.app import value_of

TRIALS = 24
ROOT = Path(__file__).parents[2]


class Forker:
    """Starts the parents of sweeps."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.parent"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, folder: Path) -> Parent:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        return Parent(int(self._process.stdout.readline()), folder)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass(frozen=True)
class Parent:
    """A parent process."""

    pid: int
    folder: Path

    @property
    def alive(self) -> bool:
        return Path(f"/proc/{self.pid}").exists()

    @property
    def code(self) -> int | None:
        """Its exit code; None if it was killed."""
        file = self.folder / f"code-{self.pid}"
        return int(file.read_text()) if file.exists() else None

    def workers(self) -> list[int]:
        return processes(lambda parent, command: parent == self.pid and b"besom.workers" in command)

    def kill(self) -> None:
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        eventually(lambda: not self.alive)


def processes(wanted: Callable[[int, bytes], bool]) -> list[int]:
    """The processes of a parent and a command line."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
            command = status.with_name("cmdline").read_bytes()
        except OSError:
            continue  # it ended just now
        if state != "Z" and wanted(int(parent), command):
            found.append(int(status.parent.name))
    return found


def eventually(look: Callable[[], object], *, within_s: float = 90.0) -> None:
    end = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    forker = Forker()
    yield forker
    forker.close()


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_killed_and_when_no_trial_is_lost_doubled_or_told_otherwise(
    seed: int, forker: Forker, location: Location
):
    folder = location.directory.parent
    chance = random.Random(seed)
    seen: set[int] = set()
    for _ in range(chance.randint(1, 3)):
        parent = forker.start(folder)
        end = time.monotonic() + chance.uniform(0.2, 3.0)
        while time.monotonic() < end and parent.alive:
            workers = parent.workers()
            seen.update(workers)
            if workers and chance.random() < 0.1:
                os.kill(chance.choice(workers), signal.SIGKILL)
            time.sleep(0.05)
        seen.update(parent.workers())
        parent.kill()
    parent = forker.start(folder)
    eventually(lambda: not parent.alive)
    assert parent.code == 0, (folder / "sweep.out").read_text()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in seen), within_s=10)

    check_study(folder, location)
    shutil.rmtree(folder, ignore_errors=True)


def check_study(folder: Path, location: Location) -> None:
    study = optuna.load_study(study_name="chaos", storage=f"sqlite:///{location.directory / 'optuna.db'}")
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert all(trial.state.is_finished() for trial in trials)
    client = MlflowClient(location.uri)
    experiment = client.get_experiment_by_name("chaos")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=5000)
    (parent,) = [run for run in runs if run.data.tags.get("besom.kind") == "study"]
    assert parent.info.status == "FINISHED"
    by_trial: dict[int, list[Run]] = {trial.number: [] for trial in trials}
    for run in runs:
        if run is not parent:
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
            by_trial[int(run.data.tags["besom.trial"])].append(run)
    jobs = (folder / "jobs.log").read_text().splitlines()
    for trial in trials:
        check_trial(trial, by_trial[trial.number])
        assert f"{trial.params['x']!r} {trial.params['depth']}" in jobs
    assert list((location.directory / "scratch").iterdir()) == []


STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED", "RETRIED": "FAILED", "INTERRUPTED": "KILLED"}


def check_trial(trial: optuna.trial.FrozenTrial, runs: list[Run]) -> None:
    for run in runs:
        assert run.info.status == STATUS[run.data.tags["besom.state"]]
        if run.data.tags["besom.state"] == "INTERRUPTED" and not run.data.params:
            continue  # its parent died between making the run and writing its params
        assert run.data.params["x"] == str(trial.params["x"])
        assert run.data.params["depth"] == str(trial.params["depth"])
    (last,) = [run for run in runs if run.data.tags["besom.state"] in ("COMPLETE", "PRUNED", "FAIL")]
    assert last.data.tags["besom.state"] == trial.state.name
    if trial.state is TrialState.COMPLETE:
        assert trial.value == last.data.metrics["best/value"]
        assert trial.value == value_of(trial.params["x"], trial.params["depth"])
        assert trial.intermediate_values[4] == trial.value
    if trial.state is TrialState.FAIL:
        assert trial.user_attrs["besom"]["reason"] == last.data.tags["besom.reason"]
