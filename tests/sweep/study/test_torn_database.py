"""A corrupt or locked database is reported and left unchanged."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from optuna.trial import TrialState

from besom.errors import StoreError
from besom.sweep.study.storage import open_storage
from tests.sweep.books import SAMPLERS, Folder, ask, history, run_one_slot, tell, train


def filled(folder: Callable[..., Folder]) -> Folder:
    swept = folder(sampler=SAMPLERS["random"])
    with swept.book() as book:
        run_one_slot(swept, book)
    with closing(sqlite3.connect(swept.path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return swept


def refused(folder: Folder) -> str:
    """Return the one-line error of a refused study; its database stays the same, byte by byte."""
    before = folder.path.read_bytes()
    with pytest.raises(StoreError) as told, folder.book():
        pass
    assert folder.path.read_bytes() == before
    line = str(told.value)
    assert "\n" not in line
    assert folder.path.name in line
    return line


@pytest.mark.parametrize("cut", [0.5, 0.97])
def test_a_database_that_was_cut_off_is_reported_and_left_as_it_is(folder: Callable[..., Folder], cut: float):
    swept = filled(folder)
    content = swept.path.read_bytes()
    swept.path.write_bytes(content[: int(len(content) * cut)])
    line = refused(swept)
    assert "is torn" in line or "malformed" in line
    assert "get back what is in it" in line
    swept.path.write_bytes(content)
    assert len(swept.study.trials) == 8


def test_a_database_with_garbage_in_any_page_is_reported_and_left_as_it_is(folder: Callable[..., Folder]):
    swept = filled(folder)
    content = swept.path.read_bytes()
    size = int.from_bytes(content[16:18], "big")
    pages = len(content) // size
    for page in range(0, pages, 5):
        swept.path.write_bytes(content[: page * size] + b"\xa5" * size + content[(page + 1) * size :])
        line = refused(swept)
        assert any(word in line for word in ("is torn", "malformed", "not a database")), (page, line)


def test_a_torn_database_that_a_dead_process_left_with_its_log_is_left_as_it_is(folder: Callable[..., Folder]):
    swept = filled(folder)
    # As after a kill -9: the last writes are in the write-ahead log beside the file.
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(swept.path)], capture_output=True, text=True, timeout=60, check=False
    )
    log = swept.path.with_name("optuna.db-wal")
    assert killed.returncode == -9, killed.stderr
    assert log.stat().st_size > 0
    content = swept.path.read_bytes()
    swept.path.write_bytes(content[: len(content) // 2])
    written = log.read_bytes()
    refused(swept)
    assert log.read_bytes() == written


def test_a_database_whose_last_write_was_cut_off_is_taken_up(folder: Callable[..., Folder]):
    """The write is rolled back from the journal beside the file, as Optuna alone writes it."""
    swept = filled(folder)
    with closing(sqlite3.connect(swept.path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
    before = history(swept.study)
    killed = subprocess.run(
        [sys.executable, "-c", CUT_OFF, str(swept.path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert killed.returncode == -9, killed.stderr
    assert swept.path.with_name("optuna.db-journal").stat().st_size > 0
    with swept.book() as book:
        assert history(book.study) == before


@pytest.mark.parametrize(
    ("revision", "remedy"), [("v9.9.9.a", "a newer one most likely"), ("v0.9.0.a", "copy it, and then run: optuna")]
)
def test_a_database_of_another_optuna_is_reported_and_left_as_it_is(
    folder: Callable[..., Folder], revision: str, remedy: str
):
    swept = filled(folder)
    with closing(sqlite3.connect(swept.path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    with closing(sqlite3.connect(swept.path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert remedy in refused(swept)


def test_a_storage_whose_driver_is_not_installed_names_it():
    with pytest.raises(StoreError, match="its driver is not installed: pip install 'mysqlclient'") as told:
        open_storage("mysql://me:hunter2@localhost/x")
    assert "hunter2" not in str(told.value)


def test_when_a_study_is_closed_its_database_is_complete_as_a_file(folder: Callable[..., Folder]):
    swept = folder(n_trials=3)
    with swept.book() as book:
        run_one_slot(swept, book)
    copy = swept.path.with_name("copy.db")  # without SQLite's log beside it
    shutil.copy(swept.path, copy)
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("SELECT count(*) FROM trials").fetchone() == (3,)


CUT_OFF = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size=1")
database.execute("BEGIN")
database.execute("CREATE TABLE more (x)")
for _ in range(2000):
    database.execute("INSERT INTO more VALUES (?)", ("x" * 300,))
os.kill(os.getpid(), signal.SIGKILL)
"""

KILLED = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("CREATE TABLE more (x)")
database.execute("INSERT INTO more VALUES (1)")
os.kill(os.getpid(), signal.SIGKILL)
"""

HOLD = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
database.execute("ROLLBACK")
"""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a write lock on the database, like another program that does not finish."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.communicate("\n")


def test_a_locked_database_is_reported_when_the_sweep_begins_and_goes_on_later(folder: Callable[..., Folder]):
    swept = folder(n_trials=3)
    with held(swept.path), pytest.raises(StoreError) as told, swept.book(patience_s=0.1):
        pass
    assert "database is locked" in str(told.value)
    assert "another program writes to it" in str(told.value)
    assert "\n" not in str(told.value)
    with swept.book() as book:
        run_one_slot(swept, book)
    assert len(swept.study.trials) == 3


@pytest.mark.parametrize("at", ["ask", "settle"])
def test_a_database_that_is_locked_in_mid_sweep_is_reported_and_the_sweep_goes_on_later(
    folder: Callable[..., Folder], at: str
):
    swept = folder(n_trials=3)
    with swept.book(patience_s=0.1) as book:
        asked = ask(book)
        tell(book, asked, train(swept, book, asked))
        with held(swept.path), pytest.raises(StoreError, match="database is locked"):
            ask(book) if at == "ask" else book.settle(asked.number)
        # Nothing is released: the process ends with the error.
    (trial,) = swept.study.trials
    assert (trial.state, trial.params) == (TrialState.RUNNING, book.study.trials[asked.number].params)
    with swept.book() as book:
        run_one_slot(swept, book)
    assert [trial.number for trial in swept.study.trials] == [0, 1, 2]
    assert swept.study.trials[0].params == book.study.trials[asked.number].params
