"""The verdict and its message, for faked trainings."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
from mlflow import MlflowClient
from omegaconf import DictConfig
from rich.console import Console

from besom.config.checks import recordable
from besom.errors import BesomError, RunNotFound
from besom.reproduce.comparison import Verdict
from besom.reproduce.rerun import reproduce
from besom.system.source_file import SourceFile
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.store import Location
from besom.tracking.study_run import Status
from besom.workers.messages import Assignment, Message
from tests.fakes import ABOUT, FakeLauncher, Play, completed, reported, started


class Runs:
    """One recorded run, and the same run again."""

    def __init__(self, location: Location, config: DictConfig) -> None:
        self.location = location
        self.client = MlflowClient(location.uri)
        self._config = config

    def record(self, status: Status, *values: float, sources: tuple[SourceFile, ...] | None = (), **tags: str) -> str:
        """A run with a value of val/loss by epoch."""
        scratch = self.location.directory / "scratch"
        scratch.mkdir()
        with Recorder(self.location, "digits") as recorder:
            recorder.keep_code()
            card = RunCard(name="one", config=recordable(self._config), tags=tags, directory=scratch)
            recorder.start(0, card, ABOUT, sources)
            for epoch, value in enumerate(values):
                recorder.report(0, epoch, {"val/loss": value}, 1000.0)
            recorder.finish(0, status)
            return recorder.run_id(0)

    def again(self, run_id: str, play: Play, tolerance: float = 0.01) -> tuple[Verdict, str]:
        output = io.StringIO()
        console = Console(file=output, width=500)
        verdict = reproduce(run_id, self.location, console, tolerance=tolerance, launcher=FakeLauncher(play))
        return verdict, output.getvalue()

    def tags(self, run_id: str) -> dict[str, str]:
        return dict(self.client.get_run(run_id).data.tags)


@pytest.fixture
def runs(location: Location, compose: Callable[..., DictConfig]) -> Runs:
    return Runs(location, compose("threads=1"))


def playing(*values: float) -> Play:
    def play(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        for epoch, value in enumerate(values):
            yield reported(assignment.trial, epoch, val_loss=value)
        yield completed(assignment.trial, min(values))

    return play


def test_the_verdict_is_a_tag_of_both_runs(runs: Runs):
    run_id = runs.record(Status.FINISHED, 2.0, 1.0)
    verdict, told = runs.again(run_id, playing(2.0, 1.0))
    again = told.split()[-1]
    assert verdict is Verdict.REPRODUCED
    assert "REPRODUCED: 1 metrics at 2 epochs, bit-exact" in told
    assert {"besom.reproduces": run_id, "besom.verdict": "REPRODUCED"}.items() <= runs.tags(again).items()
    assert {"besom.reproduced": "REPRODUCED", "besom.reproduced_by": again}.items() <= runs.tags(run_id).items()


def test_what_is_close_is_told_with_the_tolerance_and_the_largest_difference(runs: Runs):
    run_id = runs.record(Status.FINISHED, 2.0, 1.0)
    verdict, told = runs.again(run_id, playing(2.0, 1.005))
    assert verdict is Verdict.CLOSE
    assert (
        "CLOSE: every value is within 0.01 of the recorded one (of 1 where that is smaller); "
        "the largest difference is 0.005, of val/loss at epoch 1\n"
    ) in told
    assert "nothing that is recorded of code, data, packages and device has changed" in told
    verdict, told = runs.again(run_id, playing(2.0, 1.005), tolerance=0.0)
    assert verdict is Verdict.DIFFERS
    assert "DIFFERS: 1 metric(s) left the recorded values; the largest difference is 0.005" in told
    assert runs.tags(run_id)["besom.reproduced"] == "DIFFERS"


def test_nothing_varies_by_itself_of_which_not_all_is_recorded(runs: Runs):
    run_id = runs.record(Status.FINISHED, 2.0, 1.0, sources=None)  # as before sources were recorded
    _, told = runs.again(run_id, playing(2.0, 1.5))
    assert "varies by itself" not in told
    assert "this is not recorded, and may have: the source files that were imported\n" in told


def test_a_source_file_that_is_not_as_it_was_is_named(runs: Runs):
    net = SourceFile(name="net.py", path="/gone/net.py", digest="0" * 64, content=b"one")
    run_id = runs.record(Status.FINISHED, 2.0, 1.0, sources=(net,))
    _, told = runs.again(run_id, playing(2.0, 1.5))
    assert "changed: code: imported source files differ, in net.py\n" in told


def test_a_run_of_a_bundle_is_told_to_be_one(runs: Runs):
    run_id = runs.record(Status.FINISHED, 2.0, 1.0, **{"besom.bundle": "3"})
    _, told = runs.again(run_id, playing(2.0, 1.005))
    assert "it was trained in a bundle of 3, and is now trained alone: rounding differs" in told


@pytest.mark.parametrize(
    ("status", "verdict"), [(Status.KILLED, Verdict.REPRODUCED), (Status.FINISHED, Verdict.DIFFERS)]
)
def test_of_a_run_that_was_stopped_the_epochs_are_compared_that_it_had(runs: Runs, status: Status, verdict: Verdict):
    run_id = runs.record(status, 2.0, 1.0)
    found, told = runs.again(run_id, playing(2.0, 1.0, 0.5, 0.25))
    assert found is verdict
    assert ("at 2 epochs, bit-exact" in told) == (verdict is Verdict.REPRODUCED)
    assert ("one side alone has a number for val/loss at epoch 2" in told) == (verdict is Verdict.DIFFERS)


def test_a_run_without_an_epoch_is_refused(runs: Runs):
    run_id = runs.record(Status.FAILED)
    with pytest.raises(RunNotFound, match="has no metrics to compare with: it ended FAILED before its first epoch"):
        runs.again(run_id, playing(1.0))


def test_an_unknown_run_is_refused(runs: Runs):
    with pytest.raises(RunNotFound, match="run 'nonsense' is not in"):
        runs.again("nonsense", playing(1.0))


def test_a_secret_of_its_config_must_be_given_again_and_is_used(
    location: Location, compose: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
):
    runs = Runs(location, compose("threads=1", "+service={api_key: hunter2-x, token_length: 3}"))
    run_id = runs.record(Status.FINISHED, 0.5)
    used = []

    def play(assignment: Assignment) -> Iterator[Message]:
        used.append(assignment.config["service"])
        yield from playing(0.5)(assignment)

    with pytest.raises(
        BesomError, match=r"service\.api_key: secrets are not recorded; set BESOM_SECRET_SERVICE_API_KEY"
    ):
        runs.again(run_id, play)
    monkeypatch.setenv("BESOM_SECRET_SERVICE_API_KEY", "hunter2-x")
    assert runs.again(run_id, play)[0] is Verdict.REPRODUCED
    assert used == [{"api_key": "hunter2-x", "token_length": 3}]
