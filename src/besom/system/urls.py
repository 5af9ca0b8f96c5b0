"""Paths as URLs, each as its reader takes it: a folder's name may hold any character."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

# SQLAlchemy reads %41 as A and ? as the end of the path, and Optuna formats the URL, so that braces are its own.
_MISREAD = re.compile(r"[%?{}]")


def quoted(path: str) -> str:
    """Return a path as it is written in the URL of a database."""
    return _MISREAD.sub(lambda found: quote(found[0]), path)


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file, as SQLAlchemy, Optuna and MLflow take it."""
    written = quoted(str(path))
    # MLflow makes the folder of what follows sqlite:/// as it is written there; of a URL with the driver, it does not.
    return f"sqlite:///{path}" if written == str(path) else f"sqlite+pysqlite:///{written}"


def sqlite_file(url: str) -> Path | None:
    """Return the absolute path of the file that an SQLite URL names; None for all else, a database in memory too."""
    if not url.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        database = make_url(url).database
    except ArgumentError:
        return None  # who opens it says what is wrong
    return Path(database).absolute() if database and not database.startswith((":", "file:")) else None
