"""Reading a study back from the file and through the client gives the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from omegaconf import DictConfig

from besom.config.checks import recordable
from besom.errors import StoreError
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.store import Location
from besom.tracking.study_reader import _ClientReader, _FileReader, study_reader
from besom.tracking.study_run import Status
from tests.fakes import ABOUT


@pytest.fixture
def recorded(location: Location, compose: Callable[..., DictConfig], tmp_path: Path) -> tuple[str, dict[int, str]]:
    """Record two trials, the first of them twice; return the parent run's id and the trials' run ids."""
    config = recordable(compose("model=logistic_regression", "data=digits"))

    def card(name: str, trial: int, attempt: int = 0) -> RunCard:
        folder = tmp_path / name
        folder.mkdir()
        return RunCard(
            name=name, config=config, tags={"besom.trial": str(trial)}, directory=folder, attempt=attempt,
            began_s=1000.0 + trial + attempt,
        )  # fmt: skip

    with Recorder(location, "digits") as recorder:
        parent = recorder.open_study("digits", token="one", tags={"besom.kind": "study"}, note="")
        recorder.start(0, card("a", 0), ABOUT)
        recorder.finish(0, Status.FAILED, last=False)
        recorder.start(0, card("b", 0, attempt=1), ABOUT)
        recorder.start(1, card("c", 1), ABOUT)
        for epoch in range(3):
            recorder.report(0, epoch, {"val/acc": 0.1 * epoch, "val/loss": 1.0}, 1000.0 + epoch)
        recorder.report(1, 0, {"val/acc": float("nan")}, 1000.0)
        for trial in (0, 1):
            recorder.finish(trial, Status.FINISHED)
        recorder.flush()
        return parent, {trial: recorder.run_id(trial) for trial in (0, 1)}


def test_the_file_and_the_client_tell_the_same_of_a_study(location: Location, recorded: tuple[str, dict[int, str]]):
    parent, run_ids = recorded
    by_file, by_client = study_reader(location), _ClientReader(location)
    assert by_file is not None
    record = by_file.study("one")
    assert record is not None
    assert (record.run_id, dict(record.run_ids)) == (parent, run_ids)
    assert record.devices == (ABOUT["device"],)
    assert record.data == (ABOUT["data"], ABOUT["digest"][:32])
    assert record == by_client.study("one")
    wanted = [*run_ids.values(), "nobody's"][:2]
    assert by_file.curves(wanted, "val/acc") == {run_ids[0]: [(0, 0.0), (1, 0.1), (2, 0.2)]}
    assert by_client.curves(wanted[:1], "val/acc") == by_file.curves(wanted[:1], "val/acc")
    assert by_file.study("two") is by_client.study("two") is None


@pytest.mark.parametrize(
    ("change", "reader"),
    [("ADD COLUMN cost FLOAT", _FileReader), ("RENAME COLUMN step TO epoch", _ClientReader)],
)
def test_a_file_is_read_if_it_has_the_columns_that_are_read(change: str, reader: type, location: Location):
    with closing(sqlite3.connect(location.database)) as database, database:
        database.execute(f"ALTER TABLE metrics {change}")
    assert isinstance(study_reader(location), reader)


def test_where_nothing_is_recorded_there_is_nothing_to_read(tmp_path: Path):
    assert study_reader(Location.of({"uri": None, "directory": tmp_path})) is None


def test_a_torn_file_is_told_of_in_one_line(location: Location):
    location.database.write_bytes(b"not a database" * 100)
    reader = study_reader(location)
    assert reader is not None
    with pytest.raises(StoreError, match="damaged"):
        reader.study("one")


def test_links_into_a_server_carry_no_password():
    assert Location(uri="https://me:secret@host:5000/", directory=Path()).ui == "https://host:5000"
    assert Location(uri="sqlite:////x/mlflow.db", directory=Path()).ui == "http://127.0.0.1:5000"
