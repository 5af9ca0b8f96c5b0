from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import DictConfig

from besom.config.checks import recordable
from besom.errors import RunNotFound, StoreError
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.runs import Runs
from besom.tracking.store import Location
from besom.tracking.study_run import Status
from tests.fakes import ABOUT

Record = Callable[..., str]


@pytest.fixture
def record(location: Location, compose: Callable[..., DictConfig], tmp_path: Path) -> Record:
    """Record a run of two epochs; return its id."""

    def run(*, study: str | None = None, composed: bool = True, code: bool = False) -> str:
        directory = tmp_path / "scratch"
        directory.mkdir()
        config = recordable(compose("optimizer.lr=1e-5", "model.hidden_sizes=[8]")) if composed else {}
        with Recorder(location, "digits") as recorder:
            if study is not None:
                recorder.open_study(study, token=study, tags={"besom.kind": "study", "besom.study": study}, note="")
            if code:
                recorder.keep_code()
            card = RunCard(name="one", config=config, tags={"besom.trial": "0"}, directory=directory)
            recorder.start(0, card, ABOUT)
            recorder.report(0, 0, {"val/loss": 0.1 + 0.2}, 1000.0)
            recorder.report(0, 1, {"val/loss": math.nan, "train/loss": 1e-300}, 1001.0)
            recorder.finish(0, Status.FINISHED, metrics={"best/val/loss": 0.5})
            return recorder.run_id(0)

    return run


def test_a_run_is_read_back_as_it_was_recorded(location: Location, record: Record):
    run = Runs(location).run(record())
    assert (run.name, run.status, run.digest) == ("one", "FINISHED", "0123456789abcdef" * 2)
    assert run.config["optimizer"]["lr"] == 1e-5
    assert run.config["model"]["hidden_sizes"] == [8]
    assert run.config["tracking"]["uri"] == "${oc.env:MLFLOW_TRACKING_URI,null}"
    assert run.history[0] == {"val/loss": 0.1 + 0.2}
    assert (run.history[1]["train/loss"], run.history[1]["best/val/loss"]) == (1e-300, 0.5)
    assert math.isnan(run.history[1]["val/loss"])


def test_the_artifacts_of_a_run_can_be_copied_out(location: Location, record: Record, tmp_path: Path):
    Runs(location).download(record(), str(tmp_path / "copy"))
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {"config.yaml", "learning_curves.svg"}


@pytest.mark.parametrize("study", [None, "digits"])
def test_the_code_of_a_run_is_found_with_it_or_with_its_study(location: Location, record: Record, study: str | None):
    runs = Runs(location)
    run = runs.run(record(study=study, code=True))
    assert b"torch==" in runs.code(run)["packages.txt"]
    assert runs.code(runs.run(record())) == {}


def test_tags_can_be_added_later(location: Location, record: Record):
    run_id = record()
    runs = Runs(location)
    runs.set_tags(run_id, {"besom.verdict": "REPRODUCED"})
    assert runs.run(run_id).tags["besom.verdict"] == "REPRODUCED"


@pytest.mark.parametrize("run_id", ["0" * 32, "nonsense", "../../etc/passwd"])
def test_an_unknown_run_is_refused_with_where_to_look(location: Location, record: Record, run_id: str):
    record()
    with pytest.raises(RunNotFound, match=f"run '{run_id}' is not in .*mlruns; `besom ui` lists the runs"):
        Runs(location).run(run_id)


def test_the_run_of_a_study_is_refused_with_its_best_trial(location: Location, record: Record):
    record(study="digits")
    runs = Runs(location)
    latest = runs.latest_study()
    assert latest is not None
    runs.set_tags(latest.run_id, {"besom.best_run": "abc"})
    with pytest.raises(RunNotFound, match="is a study's parent run; take one of its trials, such as the best: abc"):
        runs.run(latest.run_id)


def test_a_run_that_besom_did_not_record_is_refused(location: Location, record: Record):
    record()
    client = MlflowClient(location.uri)
    (experiment,) = client.search_experiments(filter_string="name = 'digits'")
    foreign = client.create_run(experiment.experiment_id).info.run_id
    with pytest.raises(RunNotFound, match=r"has no artifact config\.yaml"):
        Runs(location).run(foreign)


def test_a_run_whose_config_was_never_composed_is_refused(location: Location, record: Record):
    run_id = record(composed=False)
    with pytest.raises(RunNotFound, match=r"never had a config of Besom's: .* see its tag besom\.reason"):
        Runs(location).run(run_id)


def test_the_latest_study_is_the_one_that_was_started_last(location: Location, record: Record):
    assert Runs(location).latest_study() is None
    record(study="first")
    with Recorder(location, "other") as recorder:
        started = recorder.open_study(
            "second", token="second", tags={"besom.kind": "study", "besom.study": "second"}, note=""
        )
    latest = Runs(location).latest_study()
    assert latest is not None
    assert (latest.name, latest.run_id) == ("second", started)


def test_reading_a_folder_without_a_store_says_so(tmp_path: Path):
    with pytest.raises(StoreError, match="there is nothing recorded yet"):
        Runs(Location.of({"uri": None, "directory": tmp_path / "mlruns"}))
