"""Paths as URLs, in the form that each reader needs: a folder's name may contain any character."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

# SQLAlchemy reads %41 as A and ? as the end of the path; Optuna formats the URL, which interprets braces.
_MISREAD = re.compile(r"[%?{}]")


def quoted(path: str) -> str:
    """Return a path quoted for the URL of a database."""
    return _MISREAD.sub(lambda found: quote(found[0]), path)


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file for SQLAlchemy, Optuna and MLflow."""
    written = quoted(str(path))
    # MLflow creates the folder of the unquoted path after sqlite:///; for a URL with the driver, it does not.
    return f"sqlite:///{path}" if written == str(path) else f"sqlite+pysqlite:///{written}"


def sqlite_file(url: str) -> Path | None:
    """Return the absolute path of the file of an SQLite URL; None for others, and for a database in memory."""
    if not url.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        database = make_url(url).database
    except ArgumentError:
        return None  # opening it reports the error
    return Path(database).absolute() if database and not database.startswith((":", "file:")) else None
