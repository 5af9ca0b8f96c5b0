"""Tracking databases of another MLflow version than the installed one: which is older, and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from besom.errors import StoreError
from besom.secrets.masks import mask
from besom.system.store_errors import Trouble


@contextmanager
def revision_errors(uri: str) -> Iterator[None]:
    """Translate MLflow's exception about a database of another schema revision into a StoreError.

    MLflow calls any other revision out of date and asks for an upgrade, which is impossible for a newer one.
    """
    try:
        yield
    except Exception as error:
        advice = _advice(uri)
        if advice is None:
            raise
        raise StoreError(f"{mask(uri)}: {advice}", trouble=Trouble.OTHER_SCHEMA) from error


def _advice(uri: str) -> str | None:
    revision = _revision(uri)
    if revision is None:
        return None
    head, known = _revisions()
    if revision == head:
        return None
    version = metadata.version("mlflow")
    if revision in known:
        return (
            f"its tables are those of an older MLflow than {version}, which is installed; keep a copy of it, "
            f"then: mlflow db upgrade {mask(uri)}"
        )
    return (
        f"its tables are those of a newer MLflow than {version}, which is installed; "
        f"install a newer one (pip install 'mlflow>{version}'), or use another store"
    )


def _revision(uri: str) -> str | None:
    """Return the schema revision of a database; None if it has none, or cannot be read."""
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
    """Return the schema revision of the installed MLflow, and all that it can upgrade."""
    import mlflow.store
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(Path(mlflow.store.__path__[0]) / "db_migrations"))
    return script.get_current_head(), frozenset(step.revision for step in script.walk_revisions())
