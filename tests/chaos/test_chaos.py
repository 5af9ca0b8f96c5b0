"""Sweeps whose workers and whose parent are killed at random moments, over and over."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState

from besom.tracking.store import Location
from tests.chaos.app import value_of
from tests.forking import Forked
from tests.running import environment

pytestmark = pytest.mark.slow

TRIALS = 24
APP = Path(__file__).with_name("app.py")


def start(folder: Path) -> Forked[str]:
    """Start a sweep in a folder; return its parent process."""
    with (folder / "sweep.out").open("a") as output:
        return Forked[str](
            [sys.executable, APP], cwd=folder, env=environment(), stdout=output, stderr=output, start_new_session=True
        )


def workers(parent: Forked[str], folder: Path) -> list[int]:
    """The other processes that run in a sweep's folder."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state = status.read_text().rpartition(")")[2].split()[0]
            is_here = status.with_name("cwd").readlink() == folder
        except OSError:
            continue  # it ended just now
        if is_here and state != "Z":
            found.append(int(status.parent.name))
    return [pid for pid in found if pid != parent.pid]


def eventually(look: Callable[[], object], *, within_s: float) -> None:
    end = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_killed_and_when_no_trial_is_lost_doubled_or_told_otherwise(seed: int, location: Location):
    folder = location.directory.parent
    chance = random.Random(seed)
    seen: set[int] = set()
    for _ in range(chance.randint(1, 3)):
        with start(folder) as parent:
            end = time.monotonic() + chance.uniform(0.2, 3.0)
            while time.monotonic() < end and parent.poll() is None:
                found = workers(parent, folder)
                seen.update(found)
                if found and chance.random() < 0.1:
                    os.kill(chance.choice(found), signal.SIGKILL)
                time.sleep(0.05)
            seen.update(workers(parent, folder))
            parent.kill()
    with start(folder) as parent:
        assert parent.wait(timeout=90) == 0, (folder / "sweep.out").read_text()
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
        # A worker may be killed before its job writes down what it was given, and so may the one of the retry.
        was_killed = trial.state is TrialState.FAIL and "SIGKILL" in trial.user_attrs["besom"]["reason"]
        assert was_killed or f"{trial.params['x']!r} {trial.params['depth']}" in jobs
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
