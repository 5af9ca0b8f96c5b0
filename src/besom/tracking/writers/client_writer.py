"""How a run reaches the store: call by call through MLflow's client, or as rows where the store is our own file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from besom.tracking.store import Location
from besom.tracking.study_run import Status
from besom.tracking.writers.bulk_writer import row_writer
from besom.tracking.writers.entries import CONFIG, run_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Param


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """What a run is created with; `config` is the text of its artifact config.yaml.

    With a `run_id`, the store has the run, and perhaps not all that it begins with.
    """

    name: str
    began_ms: int
    tags: Mapping[str, str]
    params: Sequence[Param]
    data: DatasetInput | None
    config: str
    run_id: str | None = None


class Writer(Protocol):
    """Writes the runs of one experiment."""

    def create(self, run: NewRun, directory: Path, made: Callable[[str], None]) -> None:
        """Create a run that is RUNNING, with all that it begins with.

        `made` is called with its id as soon as the store has it: if what follows fails, it can still be ended.
        `directory` is the trial's own.
        """

    def measure(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Add metrics to a run that goes on."""

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
        """End a run with its last metrics, more tags, and the files of a directory, which may be moved.

        The run has its new status only when everything else is there.
        """


def writer_of(client: MlflowClient, location: Location, experiment_id: str) -> Writer:
    """Return the cheapest writer that the store allows."""
    return row_writer(client, location, experiment_id) or CallWriter(client, experiment_id)


class CallWriter:
    """Writes to any store, most of all to a tracking server."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id

    def create(self, run: NewRun, directory: Path, made: Callable[[str], None]) -> None:
        """See Writer."""
        run_id = run.run_id
        if run_id is None:
            created = self._client.create_run(
                self._experiment_id, start_time=run.began_ms, run_name=run.name, tags=dict(run.tags)
            )
            run_id = created.info.run_id
        made(run_id)
        self._client.log_batch(run_id, params=run.params)
        if run.data is not None:
            self._client.log_inputs(run_id, datasets=[run.data])
        config = directory / CONFIG
        config.write_text(run.config, encoding="utf-8")
        self._client.log_artifact(run_id, str(config))
        with contextlib.suppress(OSError):
            config.unlink()  # or it is uploaded again at the end

    def measure(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """See Writer."""
        self._client.log_batch(run_id, metrics=metrics)

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
