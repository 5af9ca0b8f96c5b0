from __future__ import annotations

import math
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from omegaconf import DictConfig, OmegaConf

from besom.config.checks import recordable
from besom.config.extras.logged import Log, Point
from besom.config.units import Unit
from besom.errors import StoreError
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.runs import Runs
from besom.tracking.store import Location
from besom.tracking.study_run import Status
from besom.tracking.writers.entries import to_key
from tests.fakes import ABOUT
from tests.repositories import commit

Compose = Callable[..., DictConfig]


@pytest.fixture
def recorder(location: Location) -> Iterator[Recorder]:
    with Recorder(location, "digits") as found:
        yield found


@pytest.fixture
def client(location: Location) -> MlflowClient:
    return MlflowClient(location.uri)


@pytest.fixture
def card(compose: Compose, tmp_path: Path) -> Callable[..., RunCard]:
    """A RunCard; overrides go to its config, other arguments to RunCard."""

    def make(*overrides: str, **changes: Any) -> RunCard:
        config = recordable(compose(*overrides))
        directory = tmp_path / "scratch" / str(changes.get("name", "run"))
        directory.mkdir(parents=True)
        return RunCard(**{"name": "run", "config": config, "tags": {}, "directory": directory, **changes})

    return make


def points(client: MlflowClient, run: Run, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


def texts(client: MlflowClient, run_id: str) -> Mapping[str, str]:
    folder = Path(client.download_artifacts(run_id, ""))
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_a_run_has_its_params_tags_metrics_data_set_and_files(
    recorder: Recorder, client: MlflowClient, card: Callable[..., RunCard]
):
    made = card("optimizer.lr=0.02", params={"optimizer.lr": 0.02}, tags={"besom.trial": "7"})
    (made.directory / "model.json").write_text("{}")
    (made.directory / "confusion.json").write_text('{"classes": ["a", "b"], "counts": [[3, 1], [0, 4]]}')
    recorder.start(7, made, ABOUT)
    for epoch, loss in enumerate([2.5, math.nan, 1.5]):
        recorder.report(7, epoch, {"train/loss": loss, "val/loss": loss}, time_s=1000.0 + epoch)
    recorder.finish(7, Status.FINISHED, metrics={"best/val/loss": 1.5}, tags={"besom.state": "COMPLETE"})
    run = client.get_run(recorder.run_id(7))

    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params["optimizer.lr"] == "0.02"
    assert run.data.params["data.source._target_"] == "besom.data.sources.digits"
    assert run.data.params["early_stopping.patience"] == "None"
    expected = {"besom.trial": "7", "besom.state": "COMPLETE", "besom.device": "cpu", "besom.version.torch": "2.6.0"}
    assert expected.items() <= run.data.tags.items()
    losses = points(client, run, "val/loss")
    assert [step for step, _ in losses] == [0, 1, 2]
    assert (losses[0][1], losses[2][1]) == (2.5, 1.5)
    assert math.isnan(losses[1][1])
    assert client.get_metric_history(run.info.run_id, "val/loss")[2].timestamp == 1_002_000
    assert points(client, run, "best/val/loss") == [(2, 1.5)]
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("digits", ABOUT["digest"][:32])
    files = texts(client, run.info.run_id)
    assert set(files) == {
        "config.yaml", "model.json", "confusion.json", "confusion_matrix.svg", "learning_curves.svg",
    }  # fmt: skip
    assert "<svg" in files["learning_curves.svg"]
    assert "<svg" in files["confusion_matrix.svg"]
    assert not made.directory.exists()


def test_when_recording_is_over_the_database_is_complete_as_a_file(
    location: Location, card: Callable[..., RunCard], tmp_path: Path
):
    with Recorder(location, "digits") as recorder:
        recorder.start(0, card(), ABOUT)
        recorder.finish(0, Status.FINISHED)
    shutil.copy(location.database, tmp_path / "copy.db")  # without SQLite's -wal file
    with closing(sqlite3.connect(tmp_path / "copy.db")) as database:
        assert database.execute("SELECT status FROM runs").fetchall() == [("FINISHED",)]


@pytest.mark.parametrize("status", [Status.FINISHED, Status.FAILED, Status.KILLED])
def test_of_the_files_of_callbacks_and_loggers_those_asked_for_are_recorded(
    recorder: Recorder, client: MlflowClient, card: Callable[..., RunCard], status: Status
):
    made = card("figures=none", "artifacts=['csv/**', '*.txt', 'deep/*/kept']")
    theirs = ("csv/metrics.csv", "csv/more/rows", "notes.txt", "deep/one/kept", "deep/one/other", "last.ckpt")
    for name in (*theirs, "csv/.best-weights-of-rank-0"):
        path = made.directory / ".work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (made.directory / ".work" / "link.txt").symlink_to(made.directory)
    recorder.start(0, made, ABOUT)
    recorder.finish(0, status)
    files = texts(client, recorder.run_id(0))
    assert set(files) == {"config.yaml", "csv/metrics.csv", "csv/more/rows", "notes.txt", "deep/one/kept"}
    assert files["csv/more/rows"] == "csv/more/rows"


def test_what_a_trials_logger_received_is_recorded_by_step_and_no_second_time_by_report(
    recorder: Recorder, client: MlflowClient, card: Callable[..., RunCard], location: Location
):
    made = card("optimizer.lr=0.02", "figures=none", "artifacts=['*']")
    (made.directory / ".work").mkdir()
    (made.directory / ".work/config.yaml").write_text("foreign: true")
    recorder.start(0, made, ABOUT)
    steps = tuple(Point(step=step, metrics={"train/loss": value}, time_s=9.0) for step, value in ((49, 2.0), (99, 1.0)))
    recorder.log(0, Log(points=steps, params={"width": "8", "optimizer.lr": "3"}, tags={"mood": "good"}))
    recorder.report(0, 1, {"train/loss": 1.0, "val/loss": 0.5}, time_s=10.0)
    recorder.finish(0, Status.FINISHED)
    run = client.get_run(recorder.run_id(0))
    assert points(client, run, "train/loss") == [(49, 2.0), (99, 1.0)]
    assert points(client, run, "val/loss") == [(1, 0.5)]
    assert (run.data.params["width"], run.data.params["optimizer.lr"]) == ("8", "0.02")
    assert (run.data.tags["mood"], run.data.tags["besom.by_step"]) == ("good", '["train/loss"]')
    recorded = Runs(location).run(run.info.run_id)
    assert recorded.history == {1: {"val/loss": 0.5}}
    assert recorded.config["optimizer"]["lr"] == 0.02
    assert recorder.notices() == [
        "artifacts: config.yaml is the name of an artifact of Besom's own, so that this file is not kept"
    ]


def test_by_step_the_epoch_is_that_of_the_reports(
    recorder: Recorder, client: MlflowClient, card: Callable[..., RunCard]
):
    recorder.start(0, card("figures=none", axis=Unit.STEP), ABOUT)
    recorder.log(0, Log(points=(Point(step=9, metrics={"train/loss": 2.0, "epoch": 0.0}, time_s=9.0),)))
    recorder.report(0, 10, {"epoch": 1.0, "val/loss": 0.5}, time_s=10.0)
    recorder.finish(0, Status.FINISHED)
    run = client.get_run(recorder.run_id(0))
    assert [points(client, run, name) for name in ("train/loss", "epoch")] == [[(9, 2.0)], [(10, 1.0)]]


def test_a_run_without_figures_has_none(recorder: Recorder, client: MlflowClient, card: Callable[..., RunCard]):
    recorder.start(0, card("figures=none"), ABOUT)
    for epoch in range(3):
        recorder.report(0, epoch, {"val/loss": 1.0}, time_s=1000.0)
    recorder.finish(0, Status.FINISHED)
    assert set(texts(client, recorder.run_id(0))) == {"config.yaml"}


def test_the_recorded_config_is_read_back_as_it_was(
    recorder: Recorder, client: MlflowClient, card: Callable[..., RunCard]
):
    made = card("model.hidden_sizes=[32,16]", "data.batch_size=null", "optimizer.lr=1e-5", "tracking.experiment='1e-3'")
    recorder.start(0, made, ABOUT)
    recorder.finish(0, Status.FINISHED)
    text = texts(client, recorder.run_id(0))["config.yaml"]
    again = OmegaConf.create(text)
    assert OmegaConf.to_container(again) == made.config
    assert again.tracking.experiment == "1e-3"


def test_a_failed_run_carries_its_traceback_and_its_reason(
    recorder: Recorder, client: MlflowClient, card: Callable[..., RunCard]
):
    recorder.start(0, card(), {})
    recorder.finish(0, Status.FAILED, tags={"besom.reason": "no luck"}, traceback="Traceback …\nValueError: no luck\n")
    run = client.get_run(recorder.run_id(0))
    assert (run.info.status, run.data.tags["besom.reason"]) == ("FAILED", "no luck")
    assert texts(client, run.info.run_id)["traceback.txt"] == "Traceback …\nValueError: no luck\n"


def test_a_stopped_run_keeps_what_was_measured(recorder: Recorder, client: MlflowClient, card: Callable[..., RunCard]):
    recorder.start(0, card(), ABOUT)
    recorder.report(0, 0, {"val/loss": 2.0}, 1000.0)
    recorder.finish(0, Status.KILLED)
    run = client.get_run(recorder.run_id(0))
    assert (run.info.status, run.data.metrics) == ("KILLED", {"val/loss": 2.0})


def test_a_long_run_can_be_watched_while_it_trains(
    location: Location, client: MlflowClient, card: Callable[..., RunCard]
):
    with Recorder(location, "digits", flush_every_s=0) as recorder:
        recorder.start(0, card(), ABOUT)
        recorder.report(0, 0, {"val/loss": 2.0}, 1000.0)
        run = client.get_run(recorder.run_id(0))
        assert (run.info.status, run.data.metrics) == ("RUNNING", {"val/loss": 2.0})
        recorder.report(0, 1, {"val/loss": 1.0}, 1001.0)
        recorder.finish(0, Status.FINISHED)
    assert points(client, run, "val/loss") == [(0, 2.0), (1, 1.0)]


def test_a_run_of_thousands_of_epochs_is_recorded_whole(
    recorder: Recorder, client: MlflowClient, card: Callable[..., RunCard]
):
    recorder.start(0, card(), ABOUT)
    for epoch in range(3001):
        recorder.report(0, epoch, {"train/loss": float(epoch)}, 1000.0 + epoch)
    recorder.finish(0, Status.FINISHED)
    run = client.get_run(recorder.run_id(0))
    assert points(client, run, "train/loss") == [(epoch, float(epoch)) for epoch in range(3001)]


def test_names_that_mlflow_would_refuse_are_recorded_under_a_near_one(
    recorder: Recorder, client: MlflowClient, card: Callable[..., RunCard]
):
    made = card("+trainer.limit_val_batches=2", params={"+trainer.limit_val_batches": 2, "db@main": "large"})
    recorder.start(0, made, ABOUT)
    recorder.report(0, 0, {"val/acc@5": 0.5, "val/loss, mean": 1.0}, 1000.0)
    recorder.finish(0, Status.FINISHED, metrics={"best/val/acc@5": 0.5})
    run = client.get_run(recorder.run_id(0))
    assert {"trainer.limit_val_batches": "2", "db_main": "large"}.items() <= run.data.params.items()
    assert set(run.data.metrics) == {"val/acc_5", "val/loss_ mean", "best/val/acc_5"}
    assert to_key("optimizer.lr") == "optimizer.lr"


def test_long_values_are_cut_in_the_params_and_whole_in_the_config(
    recorder: Recorder, client: MlflowClient, card: Callable[..., RunCard]
):
    long = "long " * 2000
    recorder.start(0, card(f"tracking.experiment='{long}'"), {**ABOUT, "device": "x" * 9000})
    recorder.finish(0, Status.FINISHED, tags={"besom.reason": "y" * 9000})
    run = client.get_run(recorder.run_id(0))
    assert len(run.data.params["tracking.experiment"]) == 6000
    assert OmegaConf.create(texts(client, run.info.run_id)["config.yaml"]).tracking.experiment == long


# Studies.


def test_a_studys_run_is_the_parent_of_its_trials_and_is_taken_up_again(
    location: Location, client: MlflowClient, card: Callable[..., RunCard]
):
    with Recorder(location, "digits") as recorder:
        parent = recorder.open_study("digits", token="one", tags={"besom.kind": "study"}, note="about it")
        recorder.start(0, card(name="a", tags={"besom.trial": "0"}), ABOUT)
        recorder.finish(0, Status.FINISHED)
        recorder.start(1, card(name="b", tags={"besom.trial": "1"}), ABOUT)
        recorder.report(1, 0, {"val/loss": 1.0}, 1000.0)
        left_running = recorder.run_id(1)
    # The process died here: trial 1 was never finished.
    with Recorder(location, "digits") as recorder:
        assert recorder.open_study("digits", token="one", tags={}, note="") == parent
        assert client.get_run(parent).info.status == "RUNNING"
        orphan = client.get_run(left_running)
        assert (orphan.info.status, orphan.data.tags["besom.state"]) == ("KILLED", "INTERRUPTED")
        assert orphan.data.tags["mlflow.parentRunId"] == parent
        assert recorder.run_ids() == {0: recorder.run_ids()[0], 1: left_running}
        recorder.close_study(Status.FINISHED, {"best/val/loss": 1.0}, {"besom.best_run": "x"})
    run = client.get_run(parent)
    assert (run.info.status, run.data.metrics, run.data.tags["besom.best_run"]) == (
        "FINISHED",
        {"best/val/loss": 1.0},
        "x",
    )


def test_a_study_keeps_the_code_of_its_runs_and_that_of_later_ones(
    location: Location, client: MlflowClient, card: Callable[..., RunCard], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    commits = [commit(tmp_path / "project", net__py="one")]
    monkeypatch.chdir(tmp_path / "project")
    codes = []
    for trial in range(2):
        with Recorder(location, "digits") as recorder:
            parent = recorder.open_study("digits", token="one", tags={}, note="")
            recorder.keep_code()
            recorder.start(trial, card(name=str(trial)), {})
            recorder.finish(trial, Status.FINISHED)
            run = client.get_run(recorder.run_id(trial))
        assert run.data.tags["mlflow.source.git.commit"] == commits[-1]
        assert {"code"}.isdisjoint(file.path for file in client.list_artifacts(run.info.run_id))
        codes.append(run.data.tags["besom.code"])
        assert client.get_run(parent).data.tags["besom.code"] == codes[-1]
        commits.append(commit(tmp_path / "project", net__py=str(trial)))
    with Recorder(location, "digits") as recorder:  # no trial is left to train
        recorder.open_study("digits", token="one", tags={}, note="")
        recorder.keep_code()
    assert client.get_run(parent).data.tags["besom.code"] == codes[-1]
    assert {file.path for file in client.list_artifacts(parent, "code")} == {f"code/{code}" for code in codes}
    assert [file.path for file in client.list_artifacts(parent, f"code/{codes[0]}")] == [
        f"code/{codes[0]}/packages.txt"
    ]


def test_a_studys_run_that_was_deleted_is_restored_with_its_trials_and_told_of(
    location: Location, client: MlflowClient, card: Callable[..., RunCard]
):
    with Recorder(location, "digits") as recorder:
        parent = recorder.open_study("digits", token="one", tags={}, note="")
        recorder.start(0, card(tags={"besom.trial": "0"}), ABOUT)
        recorder.finish(0, Status.FINISHED)
        recorder.flush()
        client.delete_run(parent)  # in the middle of a sweep
        recorder.close_study(Status.FINISHED, {}, {})
        recorder.flush()
        (told,) = recorder.notices()
    assert f"the study's run {parent} was deleted in MLflow; it is restored" in told
    client.delete_run(parent)  # between two
    with Recorder(location, "digits") as recorder:
        assert recorder.open_study("digits", token="one", tags={}, note="") == parent
        assert list(recorder.run_ids()) == [0]
        assert len(recorder.notices()) == 1
    assert client.get_run(parent).info.lifecycle_stage == "active"


def test_studies_of_one_name_have_each_a_run_of_its_own(location: Location, client: MlflowClient):
    with Recorder(location, "digits") as recorder:
        first = recorder.open_study("digits", token="one", tags={}, note="")
        assert recorder.open_study("digits", token="two", tags={}, note="") != first
        assert recorder.open_study("digits", token="one", tags={}, note="") == first
    assert client.get_run(first).data.tags["besom.token"] == "one"


def test_each_attempt_at_a_trial_is_a_run_of_its_own_linked_to_the_first(
    recorder: Recorder, client: MlflowClient, card: Callable[..., RunCard]
):
    parent = recorder.open_study("digits", token="one", tags={}, note="")
    ids = []
    for attempt in range(3):
        made = card(name=f"a{attempt}", tags={"besom.trial": "0"}, attempt=attempt)
        recorder.start(0, made, ABOUT)
        recorder.finish(0, Status.FAILED if attempt < 2 else Status.FINISHED, last=attempt == 2)
        ids.append(recorder.run_id(0))
    first, second, third = (client.get_run(run_id) for run_id in ids)
    assert len(set(ids)) == 3
    assert not {"besom.attempt", "besom.first_run"} & first.data.tags.keys()
    for number, run in ((1, second), (2, third)):
        assert run.info.run_name == f"a{number}-retry-{number}"
        assert run.data.tags["besom.attempt"] == str(number)
        assert run.data.tags["besom.first_run"] == first.info.run_id
        assert run.data.tags["mlflow.parentRunId"] == parent
    assert recorder.run_ids() == {0: third.info.run_id}


def test_a_trial_has_ended_once_its_last_run_is_written(recorder: Recorder, card: Callable[..., RunCard]):
    recorder.start(0, card(name="a"), ABOUT)
    recorder.flush()
    assert recorder.ended() == []
    recorder.finish(0, Status.FAILED, last=False)
    recorder.flush()
    assert recorder.ended() == []
    recorder.start(0, card(name="b", attempt=1), ABOUT)
    recorder.start(1, card(name="c"), ABOUT)
    recorder.finish(1, Status.FINISHED)
    recorder.finish(0, Status.FINISHED)
    recorder.flush()
    assert recorder.ended() == [1, 0]
    assert recorder.ended() == []


def test_a_trial_whose_run_could_not_be_written_has_not_ended(location: Location, card: Callable[..., RunCard]):
    with Recorder(location, "digits") as recorder:
        recorder.start(0, card(), ABOUT)
        recorder.flush()
        with closing(sqlite3.connect(location.database)) as database, database:
            database.execute("CREATE TRIGGER full BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'full'); END")
        recorder.finish(0, Status.FINISHED)
        with pytest.raises(StoreError):
            recorder.flush()
        assert recorder.ended() == []


def test_how_trials_ended_is_read_back_from_their_runs(
    location: Location, client: MlflowClient, card: Callable[..., RunCard]
):
    with Recorder(location, "digits") as recorder:
        recorder.open_study("digits", token="one", tags={}, note="")
        for trial, status, state in (
            (0, Status.FINISHED, "COMPLETE"), (1, Status.KILLED, "PRUNED"), (2, Status.FAILED, "FAIL"),
            (3, Status.KILLED, "INTERRUPTED"), (4, Status.FAILED, "RETRIED"),
        ):  # fmt: skip
            recorder.start(trial, card(name=str(trial), tags={"besom.trial": str(trial)}), ABOUT)
            for epoch, loss in enumerate([2.0, 1.5, 1.0]):
                recorder.report(trial, epoch, {"val/loss@all": loss}, 1000.0 + epoch)
            recorder.finish(trial, status, metrics={"best/val/loss": 1.0}, tags={"besom.state": state})
        recorder.start(5, card(name="5", tags={"besom.trial": "5"}), ABOUT)
        recorder.flush()
    # The process died here, and another one resumes the study.
    with Recorder(location, "digits") as recorder:
        recorder.open_study("digits", token="one", tags={}, note="")
        ends = recorder.ends([0, 1, 2, 3, 4, 5, 6])
        assert {trial: end.tags["besom.state"] for trial, end in ends.items()} == {
            0: "COMPLETE", 1: "PRUNED", 2: "FAIL",
        }  # fmt: skip
        assert recorder.ends([1]).keys() == {1}
        assert recorder.ends([]) == {}
        assert ends[0].metrics["best/val/loss"] == 1.0
        assert ends[0].run_id == recorder.run_ids()[0]
        assert ends[0].duration_s >= 0
        assert recorder.history(ends[1].run_id, "val/loss@all") == {0: 2.0, 1: 1.5, 2: 1.0}


# When the store fails.


def refuse_params(location: Location) -> None:
    with closing(sqlite3.connect(location.database)) as database, database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON params BEGIN SELECT RAISE(ABORT, 'disk is full'); END")


def test_an_error_of_the_store_is_raised_once_and_later_work_is_still_tried(
    location: Location, client: MlflowClient, card: Callable[..., RunCard]
):
    with Recorder(location, "digits") as recorder:
        recorder.start(0, card(name="a"), ABOUT)
        recorder.flush()
        refuse_params(location)
        recorder.start(1, card(name="b"), ABOUT)
        with pytest.raises(StoreError, match=r"mlflow\.db: cannot be used as the tracking store .*disk is full"):
            recorder.flush()
        recorder.start(2, card(name="c"), ABOUT)
        for trial in range(3):
            recorder.report(trial, 0, {"val/loss": 1.0}, 1000.0)
            recorder.finish(trial, Status.KILLED)
        recorder.flush()
    (run,) = client.search_runs(["1"])  # nothing of the others: a run is created whole
    assert (run.info.run_name, run.info.status, run.data.metrics) == ("a", "KILLED", {"val/loss": 1.0})


def test_what_is_submitted_by_the_call_that_hears_of_an_error_is_tried_as_well(
    location: Location, client: MlflowClient, card: Callable[..., RunCard]
):
    with Recorder(location, "digits") as recorder:
        recorder.start(0, card(name="a"), ABOUT)
        run_id = recorder.run_id(0)
        refuse_params(location)
        recorder.start(1, card(name="b"), ABOUT)
        assert recorder._thread.mark().wait(20)
        with pytest.raises(StoreError, match="disk is full"):
            recorder.finish(0, Status.KILLED)
    assert client.get_run(run_id).info.status == "KILLED"


def test_who_waits_for_trials_to_end_hears_of_an_error(location: Location, card: Callable[..., RunCard]):
    def wait_for(recorder: Recorder) -> None:
        for _ in range(2_000):
            assert recorder.ended() == []
            time.sleep(0.01)

    with Recorder(location, "digits") as recorder:
        recorder.flush()
        refuse_params(location)
        recorder.start(0, card(), ABOUT)
        with pytest.raises(StoreError, match="disk is full"):
            wait_for(recorder)


def test_an_error_that_nobody_asked_for_is_raised_on_exit(location: Location, card: Callable[..., RunCard]):
    def record() -> None:
        with Recorder(location, "digits") as recorder:
            recorder.flush()
            refuse_params(location)
            recorder.start(0, card(), ABOUT)

    with pytest.raises(StoreError):
        record()


def test_the_error_that_ends_the_block_is_not_covered_by_one_of_the_store(
    location: Location, card: Callable[..., RunCard]
):
    def record() -> None:
        with Recorder(location, "digits") as recorder:
            recorder.flush()
            refuse_params(location)
            recorder.start(0, card(), ABOUT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record()


def test_a_broken_store_is_refused_before_anything_starts_and_left_as_it_is(tmp_path: Path):
    location = Location.of({"uri": None, "directory": tmp_path})
    location.database.write_bytes(b"this is no database" * 100)
    with (
        pytest.raises(StoreError, match=r"mlflow\.db: .* \(file is not a database\); it is damaged"),
        Recorder(location, "digits"),
    ):
        pass
    assert location.database.read_bytes() == b"this is no database" * 100


# Secrets, which must never be recorded.


def test_values_of_the_environment_and_passwords_never_reach_the_store(
    location: Location,
    compose: Compose,
    card: Callable[..., RunCard],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("SECRET_FOLDER", "/home/hunter2")
    secret_uri = "postgresql://me:hunter2@db/mlflow"
    with Recorder(location, "digits") as recorder:
        recorder.open_study("s", token="one", tags={"besom.overrides": f"tracking.uri={secret_uri}"}, note=secret_uri)
        made = card(
            "data=mnist",
            "data.source.root=${oc.env:SECRET_FOLDER}",
            "+data.source.folders=[x,'${oc.env:SECRET_FOLDER}/deep']",
            "+again=${data.source.root}",
            f"tracking.uri='{secret_uri}'",
            params={"tracking.uri": secret_uri},
            tags={"besom.overrides": f"tracking.uri={secret_uri}"},
        )
        recorder.start(0, made, ABOUT)
        failure = f"OperationalError: {secret_uri} refused"
        recorder.finish(0, Status.FAILED, tags={"besom.reason": failure}, traceback=f"Traceback …\n{failure}\n")
        recorder.close_study(Status.FAILED, {}, {"besom.best_params": secret_uri})
    files = [path for path in location.directory.rglob("*") if path.is_file()]
    assert location.database in files
    assert any(path.name == "traceback.txt" for path in files)
    for path in files:
        assert b"hunter2" not in path.read_bytes(), path


def test_of_several_views_the_store_gets_the_first_that_it_takes(recorder: Recorder, client: MlflowClient):
    recorder.view("besom-digits", {"name": "x" * 1_000_000}, {"name": "smaller"}, {"name": "least"})
    recorder.flush()
    assert client.get_experiment("1").tags["mlflow.sharedViewState.besom-digits"] == '{"name": "smaller"}'


def test_where_views_are_off_there_are_none(location: Location, client: MlflowClient):
    with Recorder(location, "digits", views=False) as recorder:
        recorder.view("besom-digits", {"name": "digits"})
    assert client.get_experiment("1").tags == {}
