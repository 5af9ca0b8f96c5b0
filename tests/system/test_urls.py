"""Folders whose names hold any character: what becomes of them where libraries want URLs."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url

from besom.cli import main
from besom.config.paths import file_name, search_path
from besom.errors import ConfigError, StoreError
from besom.sweep.spec import storage_url
from besom.sweep.study.storage import open_storage
from besom.system.urls import sqlite_file, sqlite_url
from besom.tracking.store import Location, connect, experiment_id, local_uri
from tests.forking import run

ASCII = "".join(map(chr, range(32, 127))).replace("/", "")
ALL = f"{ASCII} größe 日本 🧹"
NAMES = [
    *(f"a{character}b" for character in ASCII),
    "größe",
    "日本",
    "🧹",
    "tab\tline\n",
    "per%20cent",
    "{y}",
    "%7B",
    ALL,
]
OWN = """
defaults: [train, override data: mine, override hydra/sweeper: besom, _self_]
objective: val/acc
direction: maximize
trainer: {max_epochs: 1, accelerator: cpu}
hydra:
  sweeper:
    n_trials: 1
    params: {optimizer.lr: "interval(0.01, 0.1)"}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, named by every character: a project with a sweep and a config of its own."""
    folder = tmp_path / ALL
    for name, text in (("sweeps/own.yaml", OWN), ("conf/data/mine.yaml", "defaults: [digits]\n")):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_databases_url_leads_to_the_very_file(name: str):
    path = Path("/project", name, "mlruns", "optuna.db")
    url = sqlite_url(path)
    assert make_url(url).database == str(path)
    assert sqlite_file(url) == path
    assert RDBStorage._fill_storage_url_template(url) == url


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:a.db?uri=true", "postgresql://h/db"]
)
def test_what_is_no_file_of_a_database_has_no_path(url: str):
    assert sqlite_file(url) is None


def test_a_store_that_is_named_in_another_way_is_the_local_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert Location.of({"uri": "sqlite:///mlruns/mlflow.db", "directory": "mlruns"}).uri == local_uri(
        tmp_path / "mlruns"
    )
    assert not Location.of({"uri": "sqlite:///other/mlflow.db", "directory": "mlruns"}).is_local


def test_stores_are_made_in_the_folder_of_that_name_and_nowhere_else(tmp_path: Path, project: Path):
    location = Location.default()
    client = connect(location)
    run_id = client.create_run(experiment_id(client, location, "a")).info.run_id
    client.log_text(run_id, "text", "file.txt")
    assert Path(client.download_artifacts(run_id, "file.txt")).read_text() == "text"
    assert (location.artifacts / "a" / run_id / "artifacts" / "file.txt").is_file()
    optuna.create_study(study_name="own", storage=open_storage(storage_url(Path("mlruns"))))
    with closing(sqlite3.connect(project / "mlruns" / "optuna.db")) as database:
        assert database.execute("SELECT study_name FROM studies").fetchall() == [("own",)]
    assert [path.name for path in tmp_path.iterdir()] == [ALL]


def test_a_new_store_keeps_all_artifacts_beside_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    location = Location.of({"uri": None, "directory": tmp_path / "there"})
    places = [experiment.artifact_location for experiment in connect(location).search_experiments()]
    assert places == [(location.artifacts / "0").as_uri()]


@pytest.mark.parametrize("command", ["--dry-run", "--cfg=job"])
def test_a_project_in_such_a_folder_finds_its_own_configs(
    project: Path, capsys: pytest.CaptureFixture[str], command: str
):
    assert main(["sweep", "own", command, "--config-dir", "conf"]) == 0
    assert "digits" in capsys.readouterr().out


def test_a_sweep_in_such_a_folder_leaves_its_runs_there(tmp_path: Path, project: Path):
    command = [sys.executable, "-m", "besom.cli", "sweep", "own", "--config-dir", "conf"]
    done = run(command, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "  log     mlruns/logs/own/sweep.log" in done.stdout
    assert "  study   sqlite+pysqlite:///mlruns/optuna.db" in done.stdout
    assert list((project / "mlruns" / "artifacts" / "own").rglob("config.yaml"))
    assert [path.name for path in tmp_path.iterdir()] == [ALL]


def test_a_name_that_hydra_cannot_read_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "a ${ b"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match=r"a \$\{ b: Hydra takes \$\{ .*; rename it"), search_path([]):
        pass


def test_a_name_that_is_not_utf_8_is_refused_in_one_line(tmp_path: Path):
    folder = tmp_path / "b\udcff"
    with pytest.raises(StoreError, match=r"b\\xff: MLflow takes no folder whose name is not UTF-8; rename it"):
        Location.of({"uri": None, "directory": folder}).prepare()
    assert not folder.exists()


def test_braces_of_a_storage_that_was_named_are_told_how_to_be_written(tmp_path: Path):
    with pytest.raises(StoreError, match="write a brace of its own as %7B or %7D"):
        open_storage(f"sqlite:///{tmp_path}/{{y}}.db")


def test_names_that_differ_make_files_that_differ_and_plain_ones_stay(tmp_path: Path):
    names = ["a.b", "a_b", "a/b", "a b", "a-b", "..", "x" * 300, "x" * 301, "日" * 120, "größe"]
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(names)
    assert [file_name(name) for name in ("a_b", "a-b", "größe")] == ["a_b", "a-b", "größe"]
    for name in files:
        (tmp_path / f"{name}.lock").touch()


def test_a_studys_name_that_is_too_long_for_mlflow_is_refused_at_once(capsys: pytest.CaptureFixture[str]):
    assert main(["sweep", "digits", "--dry-run", f"hydra.sweeper.study_name={'x' * 211}"]) == 2
    assert "hydra.sweeper.study_name: it has 211 characters; MLflow takes 210" in capsys.readouterr().err
