from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from besom.cli import main
from besom.errors import RunNotFound
from besom.reproduce import changes, compare, reproduce
from besom.single import SingleRun, run_single
from besom.tracking.recorder import Recorder, RunCard
from besom.tracking.runs import RecordedRun
from besom.tracking.store import Location
from besom.tracking.study_runs import Status
from tests.fakes import ABOUT

History = dict[int, dict[str, float]]

# Comparing histories.

NAMES = st.sampled_from(["train/loss", "val/loss", "val/acc"])
VALUES = st.floats(-1e6, 1e6)
HISTORIES = st.dictionaries(st.integers(0, 20), st.dictionaries(NAMES, VALUES, min_size=1), min_size=1)


@given(HISTORIES)
def test_a_history_does_not_differ_from_itself(history: History):
    assert compare(history, history) == []


@given(HISTORIES, st.data())
def test_one_changed_value_is_found_where_it_is_and_by_how_much(history: History, data: st.DataObject):
    epoch = data.draw(st.sampled_from(sorted(history)))
    name = data.draw(st.sampled_from(sorted(history[epoch])))
    again = {number: dict(metrics) for number, metrics in history.items()}
    again[epoch][name] = data.draw(VALUES.filter(lambda value: value != history[epoch][name]))
    (found,) = compare(history, again)
    assert (found.metric, found.first_epoch, found.at_epoch) == (name, epoch, epoch)
    assert found.largest == abs(history[epoch][name] - again[epoch][name])


@given(HISTORIES, HISTORIES)
def test_it_does_not_matter_which_history_came_first(one: History, other: History):
    assert compare(one, other) == compare(other, one)


@given(HISTORIES, st.data())
def test_a_missing_epoch_is_an_endless_difference_of_all_its_metrics(history: History, data: st.DataObject):
    epoch = data.draw(st.sampled_from(sorted(history)))
    rest = {number: metrics for number, metrics in history.items() if number != epoch}
    found = compare(history, rest)
    assert [difference.metric for difference in found] == sorted(history[epoch])
    assert all((d.first_epoch, d.largest) == (epoch, math.inf) for d in found)


def test_a_difference_is_told_as_a_share_of_the_value_or_of_one():
    (large,) = compare({1: {"a": 200.0}}, {1: {"a": 202.0}})
    (small,) = compare({1: {"a": 0.25}}, {1: {"a": 0.5}})
    (endless,) = compare({1: {"a": 0.25}}, {})
    assert (large.share, small.share, endless.share) == (2 / 202, 0.25, math.inf)


def test_the_first_and_the_largest_difference_are_told_apart():
    (found,) = compare({0: {"a": 1.0}, 1: {"a": 1.0}, 2: {"a": 1.0}}, {0: {"a": 1.0}, 1: {"a": 1.5}, 2: {"a": 3.0}})
    assert (found.first_epoch, found.largest, found.at_epoch) == (1, 2.0, 2)


@pytest.mark.parametrize(
    ("recorded", "again"),
    [
        ({0: {"val/loss": math.nan}}, {0: {"val/loss": math.nan}}),
        ({0: {"val/loss": sys.float_info.max}}, {0: {"val/loss": math.inf}}),
        ({0: {"val/loss": -sys.float_info.max}}, {0: {"val/loss": -math.inf}}),
        ({0: {"val/loss": 1.0}, 1: {"best/val/loss": 1.0, "test/acc": 0.5}}, {0: {"val/loss": 1.0}}),
    ],
    ids=["nan", "infinity as MLflow keeps it", "its negative", "what is measured once"],
)
def test_what_mlflow_keeps_in_its_own_way_is_no_difference(recorded: History, again: History):
    assert compare(recorded, again) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_became_none_is_a_difference(value: float):
    assert len(compare({0: {"val/loss": 1.0}}, {0: {"val/loss": value}})) == 1


# What changed around a run.


def recorded(tags: Mapping[str, str], digest: str | None = None) -> RecordedRun:
    return RecordedRun(run_id="x", name="one", status="FINISHED", config={}, tags=tags, digest=digest, history={})


def test_each_change_of_versions_device_and_data_is_warned_of():
    run = recorded({"besom.version.torch": "2.0.0", "besom.device": "A100"}, digest="f" * 32)
    warnings = changes(run, SingleRun(about=ABOUT))
    assert "torch was 2.0.0, is 2.6.0" in warnings
    assert "device was A100, is cpu" in warnings
    assert any(warning.startswith(f"data digest was {'f' * 32}, is 0123") for warning in warnings)


def test_a_change_of_the_commit_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    same = {"besom.version.torch": "2.6.0", "besom.device": "cpu"}
    run = recorded({**same, "mlflow.source.git.commit": "abc", "besom.git.dirty": "true"}, digest=ABOUT["digest"][:32])
    assert changes(run, SingleRun(about=ABOUT)) == [
        "git commit was abc, is unknown",
        "the git tree was or is dirty: the code may differ from its commit",
    ]
    assert changes(recorded(same), SingleRun(about=ABOUT)) == []


# The whole way, in real workers.


def test_a_run_is_reproduced_bit_for_bit_and_one_with_a_changed_config_differs(
    location: Location,
    compose: Callable[..., DictConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(location.directory.parent)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # `main` may set it
    config = compose("trainer.max_epochs=2", "model.width=16", "model.dropout=0.2", "optimizer.lr=0.01", "test=true")
    first = run_single(config, name="one", tags={}, location=location, console=Console(file=io.StringIO()))
    client = MlflowClient(location.uri)
    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert {"test/acc", "val/acc", "best/val/loss"} <= set(run.data.metrics)
    files = {file.path for file in client.list_artifacts(first.run_id)}
    assert {"learning_curves.svg", "confusion_matrix.svg", "mistakes.svg"} <= files, "a single run has all figures"

    capsys.readouterr()
    assert main(["reproduce", first.run_id]) == 0
    output = capsys.readouterr().out
    assert "REPRODUCED: " in output
    assert "3 epochs, bit-exact" in output
    again = output.split()[-1]
    assert client.get_run(again).data.tags["besom.reproduces"] == first.run_id
    assert client.get_run(again).data.tags["besom.verdict"] == "REPRODUCED"

    artifact = Path(urlsplit(run.info.artifact_uri).path) / "config.yaml"
    changed = OmegaConf.load(artifact)
    changed.optimizer.lr = 0.02
    OmegaConf.save(changed, artifact)
    assert main(["reproduce", first.run_id]) == 1
    output = capsys.readouterr().out
    assert "DIFFERS: " in output
    assert "first differs at epoch" in output
    assert "val/loss" in output
    assert client.get_run(output.split()[-1]).data.tags["besom.verdict"] == "DIFFERS"


def test_a_run_without_an_epoch_is_refused(location: Location, compose: Callable[..., Any], tmp_path: Path):
    with Recorder(location, "digits") as recorder:
        (tmp_path / "scratch").mkdir()
        card = RunCard(name="one", config={"model": {}}, tags={}, directory=tmp_path / "scratch")
        recorder.start(0, card, ABOUT)
        recorder.finish(0, Status.FAILED)
        run_id = recorder.run_id(0)
    with pytest.raises(RunNotFound, match="has no metrics to compare with: it ended FAILED before its first epoch"):
        reproduce(run_id, location, Console(file=io.StringIO()))


def test_an_unknown_run_is_refused(location: Location):
    with pytest.raises(RunNotFound, match="run 'nonsense' is not in"):
        reproduce("nonsense", location, Console(file=io.StringIO()))
