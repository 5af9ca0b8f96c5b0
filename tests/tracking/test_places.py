from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from besom.errors import RunNotFound, StoreError
from besom.system.locks import locked
from besom.tracking.places import folder_of, recording_lock
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.runs import Runs
from besom.tracking.store import Location, connect
from besom.tracking.study_run import Status
from tests.fakes import ABOUT

CONFIG = {"model": {"width": 3}}


@dataclass(frozen=True)
class Project:
    """A folder with a store in it, a run in that, and a registered model of the run."""

    folder: Path
    run_id: str

    @property
    def location(self) -> Location:
        return Location.of({"uri": None, "directory": self.folder / "mlruns"})

    def at(self, folder: Path) -> Project:
        return Project(folder, self.run_id)

    def moved(self) -> Project:
        return self.at(shutil.move(self.folder, self.folder.with_name("new place")))

    def copied(self) -> Project:
        return self.at(shutil.copytree(self.folder, self.folder.with_name("copy")))

    def places(self) -> set[Path]:
        """The store that each place in the database is under."""
        columns = {
            "experiments": "artifact_location", "runs": "artifact_uri", "logged_models": "artifact_location",
            "model_versions": "source",
        }  # fmt: skip
        with closing(sqlite3.connect(self.location.database)) as database:
            found = [
                place for table, one in columns.items() for (place,) in database.execute(f"SELECT {one} FROM {table}")
            ]
        assert len(found) >= len(columns)
        return {Path(place.removeprefix("file://").replace("%20", " ").partition("/mlruns/")[0]) for place in found}


def record(location: Location, config: Mapping[str, object] = CONFIG) -> str:
    scratch = location.directory / "scratch" / "0"
    scratch.mkdir(parents=True)
    with Recorder(location, "digits") as recorder:
        recorder.start(0, RunCard(name="one", config=config, tags={}, directory=scratch, began_s=1.0), ABOUT)
        recorder.finish(0, Status.FINISHED)
        return recorder.run_id(0)


@pytest.fixture
def project(tmp_path: Path, location: Location) -> Project:
    folder = tmp_path / "old place"
    folder.mkdir()
    made = Project(shutil.move(tmp_path / "mlruns", folder / "mlruns").parent, "")
    run_id = record(made.location)
    client = connect(made.location)
    model = client.create_logged_model(client.get_run(run_id).info.experiment_id, "model", source_run_id=run_id)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.txt").write_text("weights")
    client.log_model_artifacts(model.model_id, str(tmp_path / "weights"))
    client.create_registered_model("digits")
    client.create_model_version("digits", model.artifact_location, run_id, model_id=model.model_id)
    return Project(folder, run_id)


def test_a_project_that_was_moved_is_read_and_written_where_it_is(project: Project, capsys: pytest.CaptureFixture[str]):
    moved = project.moved()
    assert Runs(moved.location).config(moved.run_id) == CONFIG
    again = record(moved.location)
    assert (moved.location.artifacts / "digits" / again / "artifacts" / "config.yaml").is_file()
    assert not project.folder.exists()
    told = f"{moved.location.database}: its artifacts are looked for beside it now, no more under {project.folder}"
    assert capsys.readouterr().err.startswith(f"besom: note: {told}")
    assert moved.places() == {moved.folder}
    Runs(moved.location)
    assert capsys.readouterr().err == "", "once is enough"


def test_a_registered_model_of_a_project_that_was_moved_loads_in_mlflow_itself(project: Project):
    moved = project.moved()
    connect(moved.location)
    model = MlflowClient(moved.location.uri).get_model_version("digits", "1")
    assert Path(download_artifacts(f"{model.source}/model.txt")).read_text() == "weights"


def test_a_copy_shares_no_file_with_what_it_was_copied_from(project: Project):
    before = sorted(project.folder.rglob("*"))
    copy = project.copied()
    record(copy.location)
    assert copy.places() == {copy.folder}
    assert project.places() == {project.folder}
    assert sorted(project.folder.rglob("*")) == before


def test_files_that_went_into_the_old_folder_are_copied_from_there(
    project: Project, capsys: pytest.CaptureFixture[str]
):
    moved = project.moved()
    lost = Path("mlruns", "artifacts", "digits", project.run_id)
    shutil.copytree(moved.folder / lost, project.folder / lost)
    shutil.rmtree(moved.folder / lost)
    assert Runs(moved.location).config(moved.run_id) == CONFIG
    assert (project.folder / lost).is_dir()
    assert "of 1 of them the files were there alone, and were copied" in capsys.readouterr().err


def test_a_store_that_is_recorded_into_keeps_its_places_until_that_ends(project: Project):
    moved = project.moved()
    with (
        locked(recording_lock(moved.location.directory), wait=True, share=True),
        pytest.raises(StoreError, match=r"process \d+ records into it; run the same command again once that has ended"),
    ):
        Runs(moved.location)
    assert moved.places() == {project.folder}
    assert Runs(moved.location).config(moved.run_id) == CONFIG


def test_a_recorder_keeps_its_store_where_it_is_and_two_record_at_once(location: Location):
    with Recorder(location, "a") as one, Recorder(location, "b") as other:
        one.flush()
        other.flush()
        with pytest.raises(Exception, match=r"\d+"), locked(recording_lock(location.directory), wait=False):
            pass
    with locked(recording_lock(location.directory), wait=False):
        pass


def test_artifacts_that_were_put_elsewhere_on_purpose_stay_there(location: Location, tmp_path: Path):
    elsewhere = tmp_path / "big disk" / "artifacts" / "digits"
    elsewhere.mkdir(parents=True)
    client = connect(location)
    client.create_experiment("digits", artifact_location=elsewhere.as_uri())
    client.create_experiment("bucket", artifact_location="s3://bucket/artifacts/bucket")
    run_id = record(location)
    assert (elsewhere / run_id / "artifacts" / "config.yaml").is_file()
    assert client.get_experiment_by_name("bucket").artifact_location == "s3://bucket/artifacts/bucket"


def test_metrics_that_mlflow_has_by_another_name_are_told_of_once(location: Location):
    scratch = location.directory / "scratch" / "0"
    scratch.mkdir(parents=True)
    with Recorder(location, "digits") as recorder:
        recorder.start(0, RunCard(name="one", config=CONFIG, tags={}, directory=scratch, began_s=1.0), ABOUT)
        for epoch in range(2):
            recorder.report(0, epoch, {"val//acc": 1.0, "loss/": 1.0, "": 1.0, "a@5": 1.0, "a#5": 1.0, "b": 1.0}, 1.0)
        recorder.finish(0, Status.FINISHED)
        recorder.flush()
        assert recorder.notices() == [
            "metric 'val//acc' is recorded as 'val/acc', for MLflow takes no such name",
            "metric 'loss/' is recorded as 'loss', for MLflow takes no such name",
            "metric '' is recorded as '_', for MLflow takes no such name",
            "metric 'a@5' is recorded as 'a_5', for MLflow takes no such name",
            "metrics 'a@5' and 'a#5' are both recorded as 'a_5'; rename one",
        ]
        metrics = connect(location).get_run(recorder.run_id(0)).data.metrics
    assert {"val/acc", "loss", "_", "a_5", "b"} <= metrics.keys()


@pytest.mark.parametrize("name", ["..", ".", "x" * 400, "日" * 150])
def test_an_experiment_of_any_name_keeps_its_artifacts_below_the_store(location: Location, name: str):
    folder = (location.artifacts / folder_of(name)).resolve()
    assert folder.parent == location.artifacts.resolve()
    folder.mkdir(parents=True)


def test_a_store_that_is_reached_by_a_link_is_where_it_was(project: Project, capsys: pytest.CaptureFixture[str]):
    link = project.folder.with_name("link")
    link.symlink_to(project.folder)
    assert Runs(project.at(link).location).config(project.run_id) == CONFIG
    assert project.places() == {project.folder}
    assert capsys.readouterr().err == ""


def test_a_run_whose_files_are_gone_says_which_folder_to_bring_back(project: Project):
    shutil.rmtree(project.location.artifacts)
    with pytest.raises(RunNotFound, match=r"has lost its files: .*/artifacts is not there; bring that folder back"):
        Runs(project.location).config(project.run_id)
