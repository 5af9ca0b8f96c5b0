from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from besom.errors import StoreError
from besom.tracking.store import Location, connect, experiment_id, local_uri

RACER = """
import sys
from pathlib import Path
from besom.tracking.store import Location, connect, experiment_id

location = Location.of({"uri": None, "directory": sys.argv[1]})
print("ready", flush=True)
sys.stdin.readline()
experiment_id(connect(location), location, sys.argv[2])
"""


def test_processes_that_start_at_once_may_all_make_the_store(tmp_path: Path, start_line: Callable[..., list[int]]):
    racers = [[sys.executable, "-c", RACER, str(tmp_path), name] for name in "ab"]
    assert start_line(racers) == [0, 0]
    location = Location.of({"uri": None, "directory": tmp_path})
    names = {experiment.name for experiment in connect(location).search_experiments()}
    assert names == {"Default", "a", "b"}
    with closing(sqlite3.connect(location.database)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_local_store_is_absolute_whatever_folder_it_was_named_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    location = Location.of({"uri": None, "directory": "mlruns"})
    assert location.uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert location.is_local
    assert not Location.of({"uri": "http://127.0.0.1:5000", "directory": "mlruns"}).is_local


def test_the_default_store_is_the_one_that_mlflow_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert Location.default().uri == local_uri(tmp_path / "mlruns")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert Location.default().uri == "http://127.0.0.1:5000"


def test_a_folder_that_cannot_be_made_is_refused_with_the_remedy(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be written .* choose another with tracking\.directory=PATH"):
        Location.of({"uri": None, "directory": tmp_path / "file" / "mlruns"}).prepare()


def test_reading_where_nothing_was_recorded_says_so_and_makes_nothing(tmp_path: Path):
    location = Location.of({"uri": None, "directory": tmp_path / "mlruns"})
    with pytest.raises(StoreError, match="there is nothing recorded yet"):
        connect(location, create=False)
    assert not location.directory.exists()


def test_an_experiment_is_made_once_with_its_artifacts_beside_the_store(location: Location):
    client = connect(location)
    made = experiment_id(client, location, "a/b")
    assert experiment_id(client, location, "a/b") == made
    assert client.get_experiment(made).artifact_location == f"file://{location.directory}/artifacts/a_b"


def test_an_experiment_that_was_deleted_is_refused_with_the_way_back(location: Location):
    client = connect(location)
    made = experiment_id(client, location, "old")
    client.delete_experiment(made)
    with pytest.raises(StoreError, match=f"mlflow experiments restore --experiment-id {made}"):
        experiment_id(client, location, "old")


def test_a_store_of_an_unknown_kind_is_refused_without_its_password(tmp_path: Path):
    location = Location.of({"uri": "nosuch://me:hunter2@db/x", "directory": tmp_path})
    with pytest.raises(StoreError, match=r"nosuch://me:\*\*\*@db/x") as refused:
        connect(location)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)
