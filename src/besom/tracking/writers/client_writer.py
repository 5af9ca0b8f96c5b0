"""The writer of runs through MLflow's client, and the choice between it and the bulk writer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from besom.tracking.store import Location
from besom.tracking.study_run import Status
from besom.tracking.writers.bulk_writer import row_writer
from besom.tracking.writers.entries import CONFIG, run_tags
from besom.tracking.writers.writer import NewRun, Writer

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

_NONE: Mapping[str, str] = {}


def writer_of(client: MlflowClient, location: Location, experiment_id: str) -> Writer:
    """Return the fastest writer that the store supports."""
    return row_writer(client, location, experiment_id) or CallWriter(client, experiment_id)


class CallWriter:
    """Writes to any store, typically a tracking server."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id

    def create(self, run: NewRun, directory: Path, on_created: Callable[[str], None]) -> None:
        """See Writer."""
        run_id = run.run_id
        if run_id is None:
            created = self._client.create_run(
                self._experiment_id, start_time=run.began_ms, run_name=run.name, tags=dict(run.tags)
            )
            run_id = created.info.run_id
        on_created(run_id)
        self._client.log_batch(run_id, params=run.params)
        if run.data is not None:
            self._client.log_inputs(run_id, datasets=[run.data])
        config = directory / CONFIG
        config.write_text(run.config, encoding="utf-8")
        self._client.log_artifact(run_id, str(config))
        with contextlib.suppress(OSError):
            config.unlink()  # otherwise it would be uploaded again at the end

    def add(
        self, run_id: str, *, metrics: Sequence[Metric], params: Sequence[Param] = (), tags: Mapping[str, str] = _NONE
    ) -> None:
        """See Writer."""
        self._client.log_batch(run_id, metrics=metrics, params=params, tags=run_tags(tags))

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
        """See Writer."""
        self._client.log_batch(run_id, metrics=metrics, tags=run_tags(tags))
        if any(directory.iterdir()):
            self._client.log_artifacts(run_id, str(directory))
        self._client.set_terminated(run_id, status, end_time=ended_ms)
