"""Writing a run's rows into MLflow's tables: one transaction at its start and one at its end, not one per call.

MLflow checks before each entry that the run exists, may be changed and does not have it yet, because anybody may write.
Here one process writes its own runs and knows. The rows equal those of `mlflow.store.tracking.SqlAlchemyStore`, made
with its tables and checks, and tests compare the two row by row. This works for Besom's own SQLite file only, and only
if the MLflow internals it uses are the known ones; with any other MLflow, the client writes.
"""

from __future__ import annotations

import inspect
import logging
import math
import os
import shutil
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from besom.tracking.writers.entries import CONFIG, run_tags
from besom.tracking.writers.tables import columns_of, schema_difference

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Param, RunTag
    from sqlalchemy.orm import Session

    from besom.tracking.store import Location
    from besom.tracking.study_run import Status
    from besom.tracking.writers.writer import NewRun

Row = dict[str, Any]

_NONE: Mapping[str, str] = {}


_LOG = logging.getLogger(__name__)


def row_writer(client: MlflowClient, location: Location, experiment_id: str) -> RowWriter | None:
    """Return a writer of an experiment's runs as rows, and of their artifacts as files.

    None if MLflow's client has to write: the store is not Besom's own file, the artifacts are not in the local file
    system, or MLflow's internals are unknown, which is logged at level DEBUG.
    """
    if not location.is_local:
        return None
    try:
        why = schema_difference(columns_of(location.database), allow_more=False) or _unknown_store(client)
        if why is None:
            artifacts = client.get_experiment(experiment_id).artifact_location
            return RowWriter(client, experiment_id) if _are_local(artifacts) else None
    except (ImportError, AttributeError, TypeError, sqlite3.Error) as error:
        why = f"{type(error).__name__}: {error}"
    _LOG.debug("runs are written by MLflow's client, not as rows: %s", why)
    return None


def _unknown_store(client: MlflowClient) -> str | None:
    """Return what is unknown about MLflow's store, or None. Raises ImportError if another internal is missing."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.utils.file_utils import local_file_uri_to_path  # noqa: F401  (now, so that a missing one is noticed)
    from mlflow.utils.uri import append_to_uri_path  # noqa: F401
    from mlflow.utils.validation import _validate_metric_name, _validate_tag  # noqa: F401

    kind = type(_store(client))
    return None if kind is SqlAlchemyStore else f"the store is a {kind.__name__}"  # such as one with workspaces


def _are_local(artifacts: str) -> bool:
    from mlflow.utils.uri import is_local_uri

    return bool(is_local_uri(artifacts))  # type: ignore[no-untyped-call]


def _transaction(store: Any) -> Any:
    """Return MLflow's transaction, which waits for a busy database; from 3.14 on it must be declared as writing."""
    maker = store.ManagedSessionMaker
    return partial(maker, read_only=False) if "read_only" in inspect.signature(maker).parameters else maker


class RowWriter:
    """Writes the runs of one experiment of a local store; see besom.tracking.writers.writer.Writer."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        from sqlalchemy import event

        store = _store(client)
        # Transactions do not wait for the disk: a process that dies loses nothing that the operating system has
        # received.
        event.listen(store.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=NORMAL"))
        store.engine.dispose()
        self._transaction = _transaction(store)
        self._experiment_id = int(experiment_id)
        self._artifacts: str = client.get_experiment(experiment_id).artifact_location
        self._sql = _Statements()

    def create(self, run: NewRun, directory: Path, on_created: Callable[[str], None]) -> None:
        """Create a run; `directory` is unused."""
        if run.run_id is not None:  # written in one transaction, so it is complete
            on_created(run.run_id)
            return
        run_id = run.chosen_id or uuid.uuid4().hex
        with self._transaction() as session:
            self._check_active(session, self._sql.stage_of_experiment, self._experiment_id)
            session.execute(self._sql.add_run, self._run_row(run_id, run))
            _insert(session, self._sql.add_tag, _tag_rows(run_id, {**run.tags, "mlflow.runName": run.name}))
            _insert(session, self._sql.add_param, _param_rows(run_id, run.params))
            if run.data is not None:
                self._add_data(session, run_id, run.data)
            folder = self._folder(run_id)
            folder.mkdir(parents=True)
            (folder / CONFIG).write_text(run.config, encoding="utf-8")  # last: refused rows must not leave a folder
        on_created(run_id)

    def add(
        self, run_id: str, *, metrics: Sequence[Metric], params: Sequence[Param] = (), tags: Mapping[str, str] = _NONE
    ) -> None:
        """Add metrics, new params and tags to a running run."""
        with self._transaction() as session:
            self._check_active(session, self._sql.stage_of_run, run_id)
            self._add_metrics(session, run_id, metrics)
            _insert(session, self._sql.add_param, _param_rows(run_id, params))
            self._set_tags(session, run_id, tags)

    def finish(
        self,
        run_id: str,
        status: Status,
        *,
        metrics: Sequence[Metric],
        tags: Mapping[str, str],
        directory: Path,
        ended_ms: int,
    ) -> None:
        """End a run; the files of `directory` are moved away."""
        move_files(directory, self._folder(run_id))  # before the transaction, which must not wait for a large file
        with self._transaction() as session:
            self._check_active(session, self._sql.stage_of_run, run_id)
            end = {"id": run_id, "status": str(status), "end_time": ended_ms}
            session.execute(self._sql.end_run, end)
            self._add_metrics(session, run_id, metrics)
            self._set_tags(session, run_id, tags)

    def _set_tags(self, session: Session, run_id: str, tags: Mapping[str, str]) -> None:
        checked = {tag.key: tag.value for tag in map(_checked_tag, run_tags(tags))}
        _insert(session, self._sql.set_tag, _tag_rows(run_id, checked))

    def _check_active(self, session: Session, stage: Any, which: int | str) -> None:
        # Read before the first write, where SQLite's transaction begins: only then does it wait for a lock.
        if session.execute(stage, {"id": which}).scalar() != "active":
            from mlflow.exceptions import MlflowException

            kind = "experiment" if isinstance(which, int) else "run"
            raise MlflowException(f"The {kind} {which} must be in the 'active' state: it was deleted.")

    def _run_row(self, run_id: str, run: NewRun) -> Row:
        return {
            "run_uuid": run_id,
            "name": run.name,
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": run.tags.get("mlflow.user", "unknown"),
            "status": "RUNNING",
            "start_time": run.began_ms,
            "end_time": None,
            "deleted_time": None,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": self._artifact_uri(run_id),
            "experiment_id": self._experiment_id,
        }

    def _add_data(self, session: Session, run_id: str, data: DatasetInput) -> None:
        entity = data.dataset
        key = {"experiment_id": self._experiment_id, "name": entity.name, "digest": entity.digest}
        row = {
            **key,
            "dataset_uuid": uuid.uuid4().hex,
            "dataset_source_type": entity.source_type,
            "dataset_source": entity.source,
            "dataset_schema": entity.schema,
            "dataset_profile": entity.profile,
        }
        session.execute(self._sql.add_dataset, row)  # no-op if another run has added it
        source = session.execute(self._sql.dataset_id, key).scalar()
        edge = {"source_type": "DATASET", "source_id": source, "destination_type": "RUN", "destination_id": run_id}
        input_id = uuid.uuid4().hex
        session.execute(self._sql.add_input, {"input_uuid": input_id, **edge})
        tags = [{"input_uuid": input_id, "name": tag.key, "value": tag.value} for tag in data.tags]
        _insert(session, self._sql.add_input_tag, tags)

    def _add_metrics(self, session: Session, run_id: str, metrics: Iterable[Metric]) -> None:
        rows = [_metric_row(run_id, metric) for metric in metrics]
        latest: dict[str, Row] = {}
        for row in rows:
            if row["key"] not in latest or _age(row) > _age(latest[row["key"]]):
                latest[row["key"]] = row
        _insert(session, self._sql.add_metric, rows)
        _insert(session, self._sql.set_latest_metric, list(latest.values()))

    def _artifact_uri(self, run_id: str) -> str:
        from mlflow.utils.uri import append_to_uri_path

        return str(append_to_uri_path(self._artifacts, run_id, "artifacts"))  # type: ignore[no-untyped-call]

    def _folder(self, run_id: str) -> Path:
        from mlflow.utils.file_utils import local_file_uri_to_path

        return Path(local_file_uri_to_path(self._artifact_uri(run_id)))  # type: ignore[no-untyped-call]


class _Statements:
    """The SQL statements, built once: SQLAlchemy takes longer to build one than SQLite to run it."""

    def __init__(self) -> None:
        from mlflow.store.tracking.dbmodels import models
        from sqlalchemy import bindparam, insert, select, tuple_, update
        from sqlalchemy.dialects.sqlite import insert as upsert

        runs, experiments, datasets = (
            model.__table__ for model in (models.SqlRun, models.SqlExperiment, models.SqlDataset)
        )
        self.add_run = insert(runs)
        self.end_run = (
            update(runs)
            .where(runs.c.run_uuid == bindparam("id"))
            .values(status=bindparam("status"), end_time=bindparam("end_time"))
        )
        self.stage_of_run = select(runs.c.lifecycle_stage).where(runs.c.run_uuid == bindparam("id"))
        self.stage_of_experiment = select(experiments.c.lifecycle_stage).where(
            experiments.c.experiment_id == bindparam("id")
        )
        self.add_param = insert(models.SqlParam.__table__)
        self.add_tag = insert(models.SqlTag.__table__)
        tag = upsert(models.SqlTag.__table__)
        self.set_tag = tag.on_conflict_do_update(
            index_elements=["key", "run_uuid"], set_={"value": tag.excluded["value"]}
        )
        self.add_dataset = upsert(datasets).on_conflict_do_nothing()
        self.dataset_id = select(datasets.c.dataset_uuid).where(
            *(datasets.c[name] == bindparam(name) for name in ("experiment_id", "name", "digest"))
        )
        self.add_input = insert(models.SqlInput.__table__)
        self.add_input_tag = insert(models.SqlInputTag.__table__)
        self.add_metric = upsert(models.SqlMetric.__table__).on_conflict_do_nothing()  # MLflow ignores duplicates
        latest = upsert(models.SqlLatestMetric.__table__)
        new, old = latest.excluded, models.SqlLatestMetric.__table__.c
        self.set_latest_metric = latest.on_conflict_do_update(
            index_elements=["key", "run_uuid"],
            set_={name: new[name] for name in ("value", "step", "timestamp", "is_nan")},
            where=tuple_(new["step"], new["timestamp"], new["value"]) > tuple_(old.step, old.timestamp, old.value),
        )


def _insert(session: Session, statement: Any, rows: Sequence[Row]) -> None:
    if rows:
        session.execute(statement, rows)


def _tag_rows(run_id: str, tags: Mapping[str, str]) -> list[Row]:
    return [{"run_uuid": run_id, "key": key, "value": value} for key, value in tags.items()]


def _param_rows(run_id: str, params: Iterable[Param]) -> list[Row]:
    for param in params:
        _check_name(param.key)
    return [{"run_uuid": run_id, "key": param.key, "value": param.value} for param in params]


def _metric_row(run_id: str, metric: Metric) -> Row:
    _check_name(metric.key)
    value = float(metric.value)
    nan = math.isnan(value)
    # SQL has neither NaN nor infinity.
    value = 0.0 if nan else max(-sys.float_info.max, min(sys.float_info.max, value))
    time_and_step = {"timestamp": metric.timestamp, "step": metric.step}
    return {"run_uuid": run_id, "key": metric.key, "value": value, "is_nan": nan, **time_and_step}


def _age(row: Row) -> tuple[int, int, float]:
    """Return the sort key of metrics by age: the latest has the last step; MLflow breaks ties in this order."""
    return row["step"], row["timestamp"], row["value"]


@cache
def _check_name(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    _validate_metric_name(name)  # type: ignore[no-untyped-call]  # the rule for params is the same


def _checked_tag(tag: RunTag) -> RunTag:
    from mlflow.utils.validation import _validate_tag

    checked: RunTag = _validate_tag(tag.key, tag.value)  # type: ignore[no-untyped-call]
    return checked


def _store(client: MlflowClient) -> Any:
    return client._tracking_client.store


def move_files(source: Path, target: Path) -> None:
    """Move the contents of a folder into an existing one, replacing files of the same name.

    For a link to a file, the file is copied, as MLflow would do.
    """
    with os.scandir(source) as entries:
        for entry in list(entries):
            destination = target / entry.name
            if entry.is_dir():
                destination.mkdir(exist_ok=True)
                if not entry.is_symlink():
                    move_files(Path(entry.path), destination)
            elif entry.is_symlink():
                shutil.copy2(entry.path, destination)
            else:
                shutil.move(entry.path, destination)
