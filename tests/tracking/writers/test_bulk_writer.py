from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from besom.config.extras.logged import Log, Point
from besom.errors import StoreError
from besom.tracking.places import settle
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.store import Location
from besom.tracking.study_run import Status
from besom.tracking.writers.bulk_writer import RowWriter, move_files
from besom.tracking.writers.client_writer import CallWriter
from tests.fakes import ABOUT

TAGS = {"mlflow.user": "me", "besom.overrides": "tracking.uri=postgresql://me:hunter2@db/x", "odd@name": "of a tag"}
CONFIG = {"model": {"width": 3, "name": "größe", "empty": {}}, "optimizer": {"lr": 1e-5, "betas": [0.9, None]}}


@contextmanager
def told(location: Location, writer: type) -> Iterator[Recorder]:
    """A recorder that flushes at every epoch and uses that writer."""
    with Recorder(location, "digits", flush_every_s=0) as recorder:
        recorder.flush()
        assert isinstance(recorder._session.runs.writer, writer)
        yield recorder


def card(folder: Path, name: str, **changes: Any) -> RunCard:
    directory = folder / "scratch" / name
    (directory / "deep" / "er").mkdir(parents=True)
    (directory / "deep" / "er" / "file.txt").write_text("deep")
    (directory / "confusion.json").write_text('{"classes": ["a", "b"], "counts": [[3, 1], [0, 4]]}')
    made = RunCard(name=name, config=CONFIG, tags=TAGS, directory=directory, began_s=1_000.5)
    return replace(made, **changes)


def record_everything(recorder: Recorder, folder: Path) -> None:
    """Record runs of every kind, with every oddity that a run may have."""
    recorder.open_study("digits", token="one", tags={"besom.kind": "study"}, note="about it")
    for trial, (status, state) in enumerate(
        [(Status.FINISHED, "COMPLETE"), (Status.KILLED, "PRUNED"), (Status.FAILED, "FAIL")]
    ):
        tags = {**TAGS, "besom.trial": str(trial)}
        params = {"optimizer.lr": 0.5, "+odd@name": "x" * 9000}
        recorder.start(trial, card(folder, f"trial {trial}", tags=tags, params=params), ABOUT)
        for epoch, loss in enumerate([2.0, math.nan, 1.5, math.inf, -math.inf, 0.5]):
            recorder.report(trial, epoch, {"val/loss@all": loss, "val/acc": 1, "lr": -0.0}, 1000.0 + epoch)
        recorder.report(trial, 5, {"val/acc": 1, "lr": 7.0}, 1005.0)  # the first repeated, the second measured again
        recorder.report(trial, 2, {"val/loss@all": 9.0, "lr": math.nan}, 2000.0)  # late, and not the latest
        points = tuple(Point(step=step, metrics={"loss@step": 2.0 / step}, time_s=999.0) for step in (50, 100))
        recorder.log(trial, Log(points=points, params={"lr": "1", "optimizer.lr": "2"}, tags={"mood": "good"}))
        recorder.finish(
            trial, status, metrics={"best/val/acc": 0.5, "val/acc": math.nan}, traceback="Traceback …",
            tags={"besom.state": state, "besom.reason": "because " * 2000, "odd@name".replace("@", "_"): "new",
                  "besom.trial": f"changed {trial}"},
        )  # fmt: skip
    recorder.start(3, card(folder, "retried"), {**ABOUT, "digest": "f" * 64})
    recorder.finish(3, Status.FAILED, last=False)
    recorder.start(3, card(folder, "again", attempt=1, config={}), {})
    recorder.finish(3, Status.FINISHED)
    recorder.start(4, card(folder, "left running"), ABOUT)
    recorder.report(4, 0, {"val/loss": 1.0}, 1000.0)
    recorder.close_study(Status.FINISHED, {"best/val/acc": 1.0}, {"besom.best_run": "x"})
    recorder.flush()


def tables(location: Location, folder: Path) -> dict[str, list[Any]]:
    """All rows of a store, with names in place of ids, and without times of the clock."""
    with closing(sqlite3.connect(location.uri.removeprefix("sqlite:///"))) as database:
        names = dict(database.execute("SELECT run_uuid, name FROM runs"))
        names |= {row[0]: f"data {row[1]}" for row in database.execute("SELECT dataset_uuid, digest FROM datasets")}
        edges = database.execute("SELECT input_uuid, source_id, destination_id FROM inputs")
        names |= {row[0]: f"{names[row[1]]} of {names[row[2]]}" for row in edges}

        def plain(cell: Any) -> Any:
            if isinstance(cell, int) and cell > 1_700_000_000_000:
                return "now"
            if isinstance(cell, str):
                for known, name in names.items():
                    cell = cell.replace(known, name)
                return cell.replace(str(folder), "HERE")
            return repr(cell)  # -0.0 is not 0.0

        found = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: sorted(tuple(map(str, map(plain, row))) for row in database.execute(f"SELECT * FROM {name}"))
            for name in found
        }


def files(folder: Path, names: Mapping[str, str]) -> dict[str, bytes]:
    """The artifacts under a folder, by a path that names the run."""
    found = {}
    experiment = folder / "artifacts" / "digits"
    for path in experiment.rglob("*"):
        run_id, *rest = path.relative_to(experiment).parts
        found["/".join([names[run_id], *rest])] = path.read_bytes() if path.is_file() else b""
    return found


@pytest.fixture
def far(tmp_path: Path, _empty_store: Path) -> Location:
    """A store that does not count as Besom's own, although it is an SQLite file with artifacts beside it."""
    folder = tmp_path / "far"
    folder.mkdir()
    (folder / "far.db").write_bytes(_empty_store.read_bytes())
    settle(folder / "far.db")
    location = Location(uri=f"sqlite:///{folder}/far.db", directory=tmp_path / "elsewhere")
    artifacts = (folder / "artifacts" / "digits").as_uri()
    MlflowClient(location.uri).create_experiment("digits", artifact_location=artifacts)
    return location


def test_rows_are_what_mlflows_client_would_have_written(location: Location, far: Location, tmp_path: Path):
    seen = []
    for place, writer, folder in ((location, RowWriter, location.directory), (far, CallWriter, tmp_path / "far")):
        with told(place, writer) as recorder:
            record_everything(recorder, folder)
        runs = MlflowClient(place.uri).search_runs(["1"])
        names = {run.info.run_id: run.info.run_name for run in runs}
        seen.append((tables(place, folder), files(folder, names)))
    (ours, our_files), (theirs, their_files) = seen
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name] == theirs[name], name
    assert len(ours["runs"]) == 7
    assert {"trial 0/artifacts/deep/er/file.txt", "trial 0/artifacts/learning_curves.svg"} <= our_files.keys()
    assert our_files == their_files


def test_a_run_that_cannot_be_written_whole_is_not_written_at_all(location: Location, tmp_path: Path):
    with told(location, RowWriter) as recorder:
        with closing(sqlite3.connect(location.database)) as database, database:
            database.execute("CREATE TRIGGER full BEFORE INSERT ON input_tags BEGIN SELECT RAISE(ABORT, 'full'); END")
        recorder.start(0, card(tmp_path, "a"), ABOUT)
        with pytest.raises(StoreError, match="full"):
            recorder.flush()
    assert MlflowClient(location.uri).search_runs(["1"]) == []
    assert not location.artifacts.exists()


def test_the_end_of_a_run_is_written_whole_or_not_at_all(location: Location, tmp_path: Path):
    client = MlflowClient(location.uri)
    with told(location, RowWriter) as recorder:
        recorder.start(0, card(tmp_path, "a"), ABOUT)
        run_id = recorder.run_id(0)
        with closing(sqlite3.connect(location.database)) as database, database:
            database.execute("CREATE TRIGGER full BEFORE INSERT ON tags BEGIN SELECT RAISE(ABORT, 'full'); END")
        recorder.finish(0, Status.FINISHED, metrics={"best/val/loss": 1.0}, tags={"besom.state": "COMPLETE"})
        with pytest.raises(StoreError, match="full"):
            recorder.flush()
    run = client.get_run(run_id)
    assert (run.info.status, run.info.end_time, run.data.metrics) == ("RUNNING", None, {})


@pytest.mark.parametrize("name", ["a//b", "../up", "."])
def test_a_name_of_a_tag_that_mlflow_refuses_is_refused(name: str, location: Location, tmp_path: Path):
    with told(location, RowWriter) as recorder:
        recorder.start(0, card(tmp_path, "a"), ABOUT)
        recorder.finish(0, Status.FINISHED, tags={name: "1"})
        with pytest.raises(StoreError, match="Invalid value"):
            recorder.flush()


def test_a_run_that_was_deleted_meanwhile_is_told_of(location: Location, tmp_path: Path):
    with told(location, RowWriter) as recorder:
        recorder.start(0, card(tmp_path, "a"), ABOUT)
        MlflowClient(location.uri).delete_run(recorder.run_id(0))
        recorder.finish(0, Status.FINISHED)
        with pytest.raises(StoreError, match="must be in the 'active' state"):
            recorder.flush()


def test_an_experiment_that_was_deleted_meanwhile_is_told_of(location: Location, tmp_path: Path):
    with told(location, RowWriter) as recorder:
        MlflowClient(location.uri).delete_experiment("1")
        recorder.start(0, card(tmp_path, "a"), ABOUT)
        with pytest.raises(StoreError, match="must be in the 'active' state"):
            recorder.flush()


def test_an_experiment_whose_artifacts_lie_on_a_server_is_written_by_calls(location: Location):
    MlflowClient(location.uri).create_experiment("digits", artifact_location="mlflow-artifacts:/1")
    with told(location, CallWriter):
        pass


def test_a_store_whose_tables_have_other_columns_is_written_by_calls(
    location: Location, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with closing(sqlite3.connect(location.database)) as database, database:
        database.execute("ALTER TABLE runs ADD COLUMN cost FLOAT")
    with caplog.at_level("DEBUG", "besom"), told(location, CallWriter) as recorder:
        recorder.start(0, card(tmp_path, "a"), ABOUT)
        recorder.finish(0, Status.FINISHED, metrics={"best/val/loss": 1.0})
        run_id = recorder.run_id(0)
    run = MlflowClient(location.uri).get_run(run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"best/val/loss": 1.0})
    assert [record.getMessage() for record in caplog.records if record.name.startswith("besom")] == [
        "runs are written by MLflow's client, not as rows: table runs has cost as well"
    ]


def test_a_run_that_calls_left_half_created_is_still_ended(far: Location, tmp_path: Path):
    with told(far, CallWriter) as recorder:
        with closing(sqlite3.connect(tmp_path / "far" / "far.db")) as database, database:
            database.execute("CREATE TRIGGER full BEFORE INSERT ON params BEGIN SELECT RAISE(ABORT, 'full'); END")
        recorder.start(0, card(tmp_path, "a"), ABOUT)
        with pytest.raises(StoreError, match="full"):
            recorder.flush()
        recorder.finish(0, Status.KILLED)
        assert MlflowClient(far.uri).get_run(recorder.run_id(0)).info.status == "KILLED"


def test_files_are_moved_over_what_is_there_and_linked_ones_are_copied(tmp_path: Path):
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source / "deep", target / "deep"):
        folder.mkdir(parents=True)
    (tmp_path / "linked").write_text("linked")
    (source / "link").symlink_to(tmp_path / "linked")
    (source / "deep" / "file").write_text("new")
    (target / "deep" / "file").write_text("old")
    (target / "deep" / "other").write_text("other")
    move_files(source, target)
    assert {path.name: path.read_text() for path in target.rglob("*") if path.is_file()} == {
        "link": "linked", "file": "new", "other": "other",
    }  # fmt: skip
    assert not (target / "link").is_symlink()
    assert (tmp_path / "linked").read_text() == "linked"
