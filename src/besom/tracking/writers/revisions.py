"""Tracking databases that another MLflow made than the installed one: which of the two is older, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from besom.errors import StoreError
from besom.secrets.masks import mask
from besom.system.store_errors import Trouble


@contextmanager
def told_of_revision(uri: str) -> Iterator[None]:
    """Turn what MLflow raises over a database of another revision than its own into a StoreError.

    MLflow calls either one out of date, and would have the user upgrade it: what is newer, it cannot.
    """
    try:
        yield
    except Exception as error:
        advice = _advice(uri)
        if advice is None:
            raise
        raise StoreError(f"{mask(uri)}: {advice}", trouble=Trouble.OTHER_SCHEMA) from error


def _advice(uri: str) -> str | None:
    found = _revision(uri)
    if found is None:
        return None
    head, known = _revisions()
    if found == head:
        return None
    version = metadata.version("mlflow")
    if found in known:
        return (
            f"its tables are those of an older MLflow than {version}, which is installed; keep a copy of it, "
            f"then: mlflow db upgrade {mask(uri)}"
        )
    return (
        f"its tables are those of a newer MLflow than {version}, which is installed; "
        f"install a newer one (pip install 'mlflow>{version}'), or use another store"
    )


def _revision(uri: str) -> str | None:
    """The revision of a database's tables; None where it has none, or cannot be asked."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(uri)
        try:
            with engine.connect() as connection:
                return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError):
        return None


def _revisions() -> tuple[str | None, frozenset[str]]:
    """The revision that the installed MLflow makes, and all that it knows how to upgrade."""
    import mlflow.store
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(Path(mlflow.store.__path__[0]) / "db_migrations"))
    return script.get_current_head(), frozenset(one.revision for one in script.walk_revisions())
