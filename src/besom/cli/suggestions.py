"""The names that tab completion suggests for an argument: sweeps, studies, runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from besom.config.paths import sweep_names
from besom.tracking.tags import STUDY, Tag

_RUNS_MAX = 50
"""The number of runs that are suggested; nobody chooses from more."""


def sweeps(values: Mapping[str, Sequence[str]], begun: str) -> Sequence[str]:
    """Return the names of the sweeps."""
    return sweep_names([Path(folder) for folder in values.get("config_dir", ())])


def studies(values: Mapping[str, Sequence[str]], begun: str) -> Sequence[str]:
    """Return the names of the studies in `--directory`; none if its database is locked or unreadable."""
    return sorted(_query(_directory(values) / "optuna.db", "SELECT study_name FROM studies"))


def runs(values: Mapping[str, Sequence[str]], begun: str) -> Sequence[str]:
    """Return the latest runs whose ids begin with `begun`, without parent runs; none if unreadable."""
    parents = f"SELECT run_uuid FROM tags WHERE key = '{Tag.KIND}' AND value = '{STUDY}'"
    return _query(
        _directory(values) / "mlflow.db",
        "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active' AND substr(run_uuid, 1, ?) = ? "
        f"AND run_uuid NOT IN ({parents}) ORDER BY start_time DESC LIMIT {_RUNS_MAX}",
        (len(begun), begun),
    )


def _directory(values: Mapping[str, Sequence[str]]) -> Path:
    return Path(values.get("directory", ["mlruns"])[-1])


def _query(database: Path, query: str, values: Sequence[object] = ()) -> list[str]:
    """Return the first column of a query's result, by SQLite without MLflow's imports: the shell waits for it."""
    if not database.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            return [first for first, *_ in connection.execute(query, values)]
    except sqlite3.Error:
        return []
