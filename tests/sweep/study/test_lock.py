"""Two parent processes on one study."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import optuna
import pytest

from besom.errors import StoreError
from besom.studies.cards import Stage, list_studies
from besom.sweep.space.search_space import SearchSpace
from besom.sweep.spec import SweepSpec
from besom.sweep.study.storage import open_storage
from besom.sweep.study.study import open_study
from tests import postgres

pytestmark = pytest.mark.slow

MakeSpec = Callable[..., SweepSpec]
NOTHING = SearchSpace(parameters=())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An empty database on a PostgreSQL server."""
    if why := postgres.missing():
        pytest.skip(why)
    with postgres.server() as found:
        yield found


def test_two_parents_may_make_the_tables_of_a_postgresql_database_at_once(
    url: str, make_spec: MakeSpec, tmp_path: Path
):
    start, failed = threading.Barrier(2), []

    def sweep(name: str) -> None:
        start.wait()
        try:
            with open_study(make_spec(study_name=name, storage=url), NOTHING, tmp_path / name):
                pass
        except BaseException as error:
            failed.append(error)

    parents = [threading.Thread(target=sweep, args=[name]) for name in ("a", "b")]
    for parent in parents:
        parent.start()
    for parent in parents:
        parent.join()
    assert failed == []
    assert {"a", "b"} <= set(optuna.get_all_study_names(url))


@pytest.mark.parametrize("named", ["by its URL", "as a class"])
def test_a_study_on_a_postgresql_server_is_refused_to_a_second_parent(
    named: str, url: str, make_spec: MakeSpec, tmp_path: Path
):
    storage = url if named == "by its URL" else {"_target_": "optuna.storages.RDBStorage", "url": url}
    spec = make_spec(storage=storage)
    with open_study(spec, NOTHING, tmp_path / "one"):
        told = rf"study 'digits' is being swept by process {os.getpid()} on \S+, by the advisory lock -?\d+ of its "
        with pytest.raises(StoreError, match=told), open_study(spec, NOTHING, tmp_path / "two"):
            pass
        with open_study(make_spec(study_name="another", storage=url), NOTHING, tmp_path / "two"):
            pass
    with open_study(spec, NOTHING, tmp_path / "two"):
        pass


def test_a_study_that_is_swept_on_another_machine_is_running(url: str, make_spec: MakeSpec, tmp_path: Path):
    def stages() -> dict[str, tuple[Stage, str | None]]:
        storage = open_storage(url)
        try:
            return {card.name: (card.stage, card.pid) for card in list_studies(storage, tmp_path / "elsewhere")}
        finally:
            storage.remove_session()

    with open_study(make_spec(study_name="far", storage=url), NOTHING, tmp_path / "one"):
        stage, pid = stages()["far"]
        assert stage is Stage.RUNNING
        assert re.fullmatch(rf"{os.getpid()} on \S+", str(pid))
    assert stages()["far"] == (Stage.NOT_STARTED, None)


def test_a_journal_is_refused_to_a_second_parent(make_spec: MakeSpec, tmp_path: Path):
    backend = {"_target_": "optuna.storages.journal.JournalFileBackend", "file_path": str(tmp_path / "journal.log")}
    spec = make_spec(storage={"_target_": "optuna.storages.JournalStorage", "log_storage": backend})
    with ExitStack() as stack:
        stack.enter_context(open_study(spec, NOTHING, tmp_path / "one"))
        with pytest.raises(StoreError, match=f"being swept by process {os.getpid()}"):
            stack.enter_context(open_study(spec, NOTHING, tmp_path / "two"))
