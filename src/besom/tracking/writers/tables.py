"""MLflow's tables that Besom's own SQL uses, as in MLflow 3.10 to 3.18."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from besom.system.sqlite_files import read_only

_RUN = "run_uuid name source_type source_name entry_point_name user_id status start_time end_time deleted_time"
_METRIC = "key value timestamp step is_nan run_uuid"
_DATASET = "dataset_uuid experiment_id name digest dataset_source_type dataset_source dataset_schema dataset_profile"

COLUMNS: Mapping[str, frozenset[str]] = {
    table: frozenset(columns.split())
    for table, columns in {
        "experiments": "experiment_id name workspace artifact_location lifecycle_stage creation_time last_update_time",
        "runs": f"{_RUN} source_version lifecycle_stage artifact_uri experiment_id",
        "params": "key value run_uuid",
        "tags": "key value run_uuid",
        "metrics": _METRIC,
        "latest_metrics": _METRIC,
        "datasets": _DATASET,
        "inputs": "input_uuid source_type source_id destination_type destination_id step",
        "input_tags": "input_uuid name value",
        "experiment_tags": "key value experiment_id",
    }.items()
}


def columns_of(database: Path) -> Mapping[str, frozenset[str]]:
    """Return the columns of each table of a SQLite file, opened read-only. Raises sqlite3.Error."""
    columns_by_table: dict[str, set[str]] = defaultdict(set)
    with read_only(database) as connection:
        for table, column in connection.execute(
            "SELECT m.name, p.name FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'"
        ):
            columns_by_table[table].add(column)
    return {table: frozenset(columns) for table, columns in columns_by_table.items()}


def schema_difference(actual: Mapping[str, frozenset[str]], *, allow_more: bool) -> str | None:
    """Return the first difference from COLUMNS as text, or None; with `allow_more`, additional columns are accepted."""
    for table, expected in COLUMNS.items():
        columns = actual.get(table, frozenset())
        if missing := sorted(expected - columns):
            return f"table {table} has no {', '.join(missing)}"
        if not allow_more and (further := sorted(columns - expected)):
            return f"table {table} has {', '.join(further)} as well"
    return None
