from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from omegaconf import DictConfig
from rich.console import Console

from besom.errors import BesomError, ConfigError, Interrupted, TrainingCrashed
from besom.sweep.single import SingleRun, run_single
from besom.tracking.store import Location
from besom.workers.messages import Assignment, Blame, Message, Started
from tests.fakes import (
    ABOUT,
    FakeLauncher,
    Play,
    completed,
    crashing,
    crashing_at_once,
    failed,
    failing,
    finishing,
    reported,
    started,
)
from tests.forking import Forked


class Train:
    """`besom train` without Hydra, with fake workers."""

    def __init__(self, location: Location, config: DictConfig) -> None:
        self.location = location
        self.config = config
        self.output = io.StringIO()

    def __call__(self, play: Play) -> SingleRun:
        return run_single(
            self.config,
            name="one",
            tags={"besom.overrides": "none"},
            location=self.location,
            console=Console(file=self.output, width=200),
            launcher=FakeLauncher(play),
        )

    def runs(self) -> list[Run]:
        client = MlflowClient(self.location.uri)
        return list(client.search_runs([found.experiment_id for found in client.search_experiments()]))

    def left(self) -> list[Path]:
        """Return the scratch folders that were not deleted."""
        return list((self.location.directory / "scratch").iterdir())


@pytest.fixture
def train(location: Location, compose: Callable[..., DictConfig]) -> Train:
    return Train(location, compose("optimizer.lr=0.25"))


def test_a_run_is_told_epoch_by_epoch_and_recorded(train: Train):
    killed = train.location.directory / "scratch/run-killed"
    (killed / ".work").mkdir(parents=True)  # what another process left is removed as well
    killed.with_suffix(".lock").touch()
    run = train(finishing)
    (recorded,) = train.runs()
    assert run.run_id == recorded.info.run_id
    assert (recorded.info.status, recorded.info.run_name) == ("FINISHED", "one")
    assert recorded.data.metrics["best/val/loss"] == 0.25
    expected = {"besom.family": "MLPClassifier", "besom.state": "COMPLETE", "besom.overrides": "none"}
    assert expected.items() <= recorded.data.tags.items()
    assert run.history == {0: {"val/acc": 0.0}, 1: {"val/acc": 0.25}}
    assert "digits (1,079 train, 359 val, 359 test), 650 parameters" in train.output.getvalue()
    assert "val/acc 0.2500" in train.output.getvalue()
    assert train.left() == []


def test_a_value_that_the_worker_tuned_is_told_and_in_the_recorded_config(train: Train):
    train.config.tune = {"method": "lr_find"}
    tuned = {"key": "optimizer.lr", "value": 0.0625, "by": "lr_find"}

    def tuning(assignment: Assignment) -> Iterator[Message]:
        yield Started(trial=assignment.trial, about={**ABOUT, "tuned": tuned})
        yield completed(assignment.trial, 0.5)

    train(tuning)
    (run,) = train.runs()
    assert "optimizer.lr=0.0625, found by lr_find" in train.output.getvalue()
    assert (run.data.params["optimizer.lr"], run.data.params["tune"]) == ("0.0625", "{}")
    assert json.loads(run.data.tags["besom.tuned"]) == tuned


def test_without_tracking_nothing_is_recorded(train: Train):
    train.config.tracking.enabled = False
    run = train(finishing)
    assert (run.run_id, run.history[1]) == ("", {"val/acc": 0.25})
    assert train.runs() == []


def test_what_cannot_be_trained_is_refused_before_a_worker_starts(train: Train):
    train.config.data.batch_size = 0
    with pytest.raises(ConfigError, match=r"data\.batch_size"):
        train(finishing)
    assert train.runs() == []


def test_a_crash_of_the_training_is_recorded_and_raised_with_its_traceback(train: Train):
    with pytest.raises(TrainingCrashed, match="ValueError: no luck") as crashed:
        train(failing)
    assert crashed.value.traceback == "Traceback …\nValueError: no luck\n"
    (run,) = train.runs()
    assert (run.info.status, run.data.tags["besom.reason"]) == ("FAILED", "ValueError: no luck")
    assert run.info.run_id in str(crashed.value)


def test_a_mistake_that_shows_once_it_trains_is_recorded_and_raised_in_one_line(train: Train):
    def exploding(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield reported(assignment.trial, 0, val_loss=math.inf)
        yield failed(assignment.trial, "lower the rate", blame=Blame.USER)

    with pytest.raises(BesomError, match=r"lower the rate \(run \w{32}\)"):
        train(exploding)
    assert [run.info.status for run in train.runs()] == ["FAILED"]


def test_a_mistake_that_shows_before_anything_was_built_leaves_no_run(train: Train):
    def refusing(assignment: Assignment) -> Iterator[Message]:
        yield failed(assignment.trial, "no such file", blame=Blame.DATA)

    with pytest.raises(BesomError, match=r"^no such file$"):
        train(refusing)
    assert train.runs() == []
    assert train.left() == []


@pytest.mark.parametrize(("play", "statuses"), [(crashing, ["FAILED"]), (crashing_at_once, [])])
def test_a_worker_that_dies_ends_the_run(train: Train, play: Play, statuses: list[str]):
    with pytest.raises(BesomError, match="killed by SIGKILL"):
        train(play)
    assert [run.info.status for run in train.runs()] == statuses


def test_ctrl_c_leaves_a_run_marked_killed(train: Train):
    never, before = threading.Event(), signal.getsignal(signal.SIGINT)

    def endless(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield reported(assignment.trial, 0, val_acc=0.5)
        while signal.getsignal(signal.SIGINT) == before:
            time.sleep(0.01)  # the parent process does not read yet
        os.kill(os.getpid(), signal.SIGINT)
        never.wait(20)
        yield completed(assignment.trial, 0.5)

    with pytest.raises(Interrupted):
        train(endless)
    (run,) = train.runs()
    assert (run.info.status, run.data.tags["besom.state"]) == ("KILLED", "INTERRUPTED")
    assert run.data.metrics == {"val/acc": 0.5}
    assert train.left() == []


def test_ctrl_c_on_a_real_training_ends_it_and_its_worker(location: Location):
    training = Forked[str](
        [sys.executable, "-m", "besom.cli", "train", "trainer=cpu", "trainer.max_epochs=1000000", "model.width=8"],
        cwd=location.directory.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a new process group, as in a terminal
    )
    client = MlflowClient(location.uri)

    def runs() -> list[Any]:
        experiment = client.get_experiment_by_name("train")
        return list(client.search_runs([experiment.experiment_id])) if experiment else []

    try:
        end = time.monotonic() + 90
        while not runs():
            assert time.monotonic() < end
            assert training.poll() is None
            time.sleep(0.1)
        os.killpg(training.pid, signal.SIGINT)
        output, _ = training.communicate(timeout=20)
    finally:
        training.kill()
    assert training.returncode == 130, output
    assert [run.info.status for run in runs()] == ["KILLED"]
