"""The problems of a store: distinguished whoever raises them, each with a remedy that loses nothing."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException, RestException
from sqlalchemy.exc import OperationalError

from besom.system.store_errors import Store, Trouble, cause_of, is_absent, trouble_of


def raised(what: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:
        what()
    return caught.value


def of_sqlite(path: Path) -> dict[Trouble, Exception]:
    """SQLite's own errors, raised by SQLite."""

    def full() -> None:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA max_page_count=1")
            database.execute("CREATE TABLE a (b)")

    def locked() -> None:
        with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(path, timeout=0)) as other:
            one.execute("BEGIN EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")

    def read_only() -> None:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            database.execute("CREATE TABLE a (b)")

    def damaged() -> None:
        (path.parent / "text").write_text("no database" * 100)
        with closing(sqlite3.connect(path.parent / "text")) as database:
            database.execute("CREATE TABLE a (b)")

    def other_schema() -> None:
        with closing(sqlite3.connect(path)) as database:
            database.execute("SELECT * FROM runs")

    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=1")
    told = (full, locked, read_only, damaged, other_schema)
    kinds = (Trouble.FULL, Trouble.LOCKED, Trouble.READ_ONLY, Trouble.DAMAGED, Trouble.OTHER_SCHEMA)
    return dict(zip(kinds, map(raised, told), strict=True))


def test_a_trouble_of_sqlite_is_the_same_through_sqlalchemy_through_mlflow_and_as_words_from_a_server(tmp_path: Path):
    for trouble, error in of_sqlite(tmp_path / "some.db").items():
        assert trouble_of(error) is trouble
        wrapped = OperationalError("INSERT", {}, error)
        assert trouble_of(wrapped) is trouble
        assert cause_of(wrapped) == str(error)
        again = MlflowException(str(wrapped), error_code=1)
        assert trouble_of(again) is trouble  # as a server tells it
        assert cause_of(again) == str(error)
        again.__cause__ = wrapped
        assert trouble_of(again) is trouble


MISSING = ModuleNotFoundError("No module named 'psycopg'", name="psycopg")
REFUSED = (
    "API request to http://h:1/a failed with exception HTTPConnectionPool(host='h', port=1): Max retries exceeded with "
    "url: /a (Caused by NewConnectionError('<urllib3.connection object at 0x7f>: Failed to establish a new "
    "connection: [Errno 111] Connection refused'))"
)


@pytest.mark.parametrize(
    ("error", "trouble", "cause"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x"), Trouble.FULL, "No space left on device"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), Trouble.FULL, None),
        (PermissionError(errno.EACCES, "Permission denied"), Trouble.READ_ONLY, "Permission denied"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), Trouble.UNREACHABLE, "Connection refused"),
        (MlflowException(REFUSED), Trouble.UNREACHABLE, "Connection refused"),
        (
            MlflowException(
                "API request to http://h/a failed with exception ('Connection broken: IncompleteRead(0 bytes "
                "read, 2 more expected)', IncompleteRead(0 bytes read, 2 more expected))"
            ),
            Trouble.UNREACHABLE,
            None,
        ),
        (MlflowException("API request to endpoint /a failed with error code 503 != 200."), Trouble.UNREACHABLE, None),
        (MlflowException("API request to endpoint /a failed with error code 401 != 200."), Trouble.UNAUTHORIZED, None),
        (RestException({"error_code": "PERMISSION_DENIED", "message": "no"}), Trouble.UNAUTHORIZED, None),
        (MISSING, Trouble.NO_DRIVER, "No module named 'psycopg'"),
        (MlflowException("Detected out-of-date database schema (found x)"), Trouble.OTHER_SCHEMA, None),
        (RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid metric"}), Trouble.REFUSED, None),
        (
            RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "must be in the 'active' state"}),
            Trouble.DELETED,
            None,
        ),
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"}), Trouble.ABSENT, None),
        (ValueError("what is this?\nand this?"), Trouble.OTHER, "what is this?"),
        (ValueError(), Trouble.OTHER, "ValueError"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_trouble_is_told_apart_whoever_tells_of_it(error: Exception, trouble: Trouble, cause: str | None):
    assert trouble_of(error) is trouble
    if cause is not None:
        assert cause_of(error) == cause


def test_what_is_not_there_differs_from_a_store_that_does_not_answer():
    assert is_absent(RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"}))
    assert not is_absent(MlflowException(REFUSED))
    assert not is_absent(MlflowException("API request to endpoint /a failed with error code 401 != 200."))


def told(error: Exception, where: str = "/here/mlflow.db") -> str:
    return str(Store(where=where, role="the tracking store", choose="tracking.uri", locked_s=20).error(error))


@pytest.mark.parametrize(
    ("error", "where", "remedy"),
    [
        (sqlite3.OperationalError("database or disk is full"), "/a/x.db", "the disk is full: make room on it"),
        (sqlite3.OperationalError("database is locked"), "/a/x.db", r"another program writes to it \(.* 20 s\)"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "/a/x.db", "make it and its folder writ"),
        (sqlite3.DatabaseError("file is not a database"), "/a/x.db", r"damaged.* left as it is.*\.recover"),
        (MISSING, "postgresql://me:hunter2@db/x", r"pip install 'psycopg\[binary\]'"),
        (MlflowException("error code 401 != 200"), "http://db", "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PA"),
        (MlflowException("password authentication failed"), "postgresql://me:hunter2@db/x", "check the user and the"),
        (MlflowException("Connection refused"), "http://me:hunter2@db", "start its server"),
        (MlflowException("must be in the 'active' state"), "/a/x.db", "restore it there"),
        (MlflowException("Detected out-of-date database schema"), "/a/x.db", "mlflow db upgrade /a/x.db"),
        (ValueError("what?"), "/a/x.db", "check tracking.uri"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_each_trouble_has_a_line_of_its_own_whose_remedy_loses_nothing(error: Exception, where: str, remedy: str):
    line = told(error, where)
    assert line.startswith(where.replace("hunter2", "***"))
    assert re.search(remedy, line)
    assert "\n" not in line
    assert "hunter2" not in line
    assert "move" not in line
