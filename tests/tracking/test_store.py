from __future__ import annotations

import os
import socket
import sqlite3
import sys
import time
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


def test_a_store_that_a_killed_process_left_half_made_is_made_anew(tmp_path: Path):
    location = Location.of({"uri": None, "directory": tmp_path / "mlruns"})
    location.directory.mkdir()
    with closing(sqlite3.connect(location.database)) as database, database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER, name TEXT)")
        database.execute("CREATE TABLE metrics (step INTEGER)")
    an_hour_ago = time.time() - 3600  # whoever made it is not at work on it any more
    os.utime(location.database, (an_hour_ago, an_hour_ago))
    (location.directory / "mlflow-being-made-1.db").touch()  # and what another one left that was making it
    experiment_id(connect(location), location, "a")
    with closing(sqlite3.connect(location.database)) as database:
        assert database.execute("SELECT name FROM experiments ORDER BY 1").fetchall() == [("Default",), ("a",)]
    assert not list(location.directory.glob("*being-made*"))


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


@pytest.mark.parametrize("uri", ["http://127.0.0.1:{}", "postgresql://me:hunter2@127.0.0.1:{}/x"])
def test_a_server_that_does_not_answer_is_told_of_at_once(tmp_path: Path, uri: str):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(StoreError, match=r"no tracking server answers there \(Connection refused\); start it") as told:
        connect(Location(uri=uri.format(port), directory=tmp_path))
    assert told.value.trouble == "unreachable"
    assert "hunter2" not in str(told.value)


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


@pytest.mark.parametrize(
    ("revision", "told"),
    [
        ("ffffffffffff", r"are those of a newer MLflow than [\d.]+, .*pip install 'mlflow>[\d.]+'"),
        ("451aebb31d03", r"are those of an older MLflow than [\d.]+, .*mlflow db upgrade sqlite:///.*/mlflow\.db"),
    ],
)
def test_a_store_that_another_mlflow_made_is_refused_with_what_helps(revision: str, told: str, location: Location):
    with closing(sqlite3.connect(location.database)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    before = location.database.read_bytes()
    with pytest.raises(StoreError, match=told) as refused:
        connect(location)
    assert refused.value.trouble == "other schema"
    assert "\n" not in str(refused.value)
    assert location.database.read_bytes() == before


def test_a_store_of_an_unknown_kind_is_refused_without_its_password(tmp_path: Path):
    location = Location.of({"uri": "nosuch://me:hunter2@db/x", "directory": tmp_path})
    with pytest.raises(StoreError, match=r"nosuch://me:\*\*\*@db/x") as refused:
        connect(location)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)
