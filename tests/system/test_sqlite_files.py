"""SQLite files: whole or not there."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from besom.system.sqlite_files import complete, replaced_atomically


def fill(path: Path, value: int) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE a (b)")
        database.execute("INSERT INTO a VALUES (?)", (value,))


def values(path: Path) -> list[tuple[int]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT b FROM a").fetchall()


def test_a_database_is_not_there_before_it_is_whole(tmp_path: Path):
    path = tmp_path / "some.db"
    with suppress(ZeroDivisionError), replaced_atomically(path) as beside:
        fill(beside, 1)
        raise ZeroDivisionError
    assert not path.exists()
    with replaced_atomically(path) as beside:
        fill(beside, 2)
        assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["some.db"]  # what was left the first time is gone
    assert values(path) == [(2,)]


def test_a_database_that_takes_the_place_of_another_is_not_given_its_log(tmp_path: Path):
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA journal_mode=WAL")
        old.execute("CREATE TABLE old (x)")
        assert path.with_name("some.db-wal").exists()
        with replaced_atomically(path) as beside:
            fill(beside, 3)
        assert values(path) == [(3,)]


def test_a_file_is_complete_while_others_have_it_open(tmp_path: Path):
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        fill(path, 4)
        complete(path)
        (tmp_path / "copy.db").write_bytes(path.read_bytes())
    assert values(tmp_path / "copy.db") == [(4,)]


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path):
    complete(tmp_path / "some.db")
    assert not list(tmp_path.iterdir())
