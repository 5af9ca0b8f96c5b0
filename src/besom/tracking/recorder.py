"""Writes runs to MLflow in the background: workers never wait for it, and the parent hardly does.

A trial's run is created when the trial starts, with its params, tags and config; its metrics are buffered and
written in one call at the end, or every few seconds if the trial is long, so that the UI shows it live.
"""

from __future__ import annotations

import json
import queue
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from omegaconf import OmegaConf

from besom.config import flatten, mask
from besom.tracking.figures import Artist
from besom.tracking.store import Location, connect, experiment_id, translated

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

FLUSH_EVERY_S = 5.0
CONFIG = "config.yaml"
_MAX_KEY = 250
_MAX_VALUE = 6000  # MLflow cuts a longer param; the artifact config.yaml has it whole


class Status(StrEnum):
    """MLflow's names for how a run ended."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


@dataclass(frozen=True, kw_only=True)
class RunCard:
    """What is known of a run before it starts."""

    name: str
    config: Mapping[str, Any]
    tags: Mapping[str, str]
    params: Mapping[str, Any] = field(default_factory=dict)
    directory: Path
    began_s: float = field(default_factory=time.time)


@dataclass(eq=False)
class _Open:
    card: RunCard
    run_id: str
    metrics: list[Metric] = field(default_factory=list)
    history: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    flushed: float = field(default_factory=time.monotonic)


class Recorder:
    """One thread that owns the MLflow client; every method returns at once and its work happens in order.

    What fails there first is raised, once, as StoreError by the next call or on exit. What is submitted after that
    is still tried, since runs should be closed where they can be, but not told of.
    """

    def __init__(self, location: Location, experiment: str, *, flush_every_s: float = FLUSH_EVERY_S) -> None:
        self._location = location
        self._experiment = experiment
        self._flush_every_s = flush_every_s
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._error: BaseException | None = None
        self._failed = False
        self._open: dict[int, _Open] = {}
        self._run_ids: dict[int, str] = {}
        self._parent: str | None = None
        self._client: MlflowClient
        self._experiment_id: str
        self._artist = Artist()
        self.cpu_s = 0.0

    def __enter__(self) -> Self:
        self._location.prepare()
        self._thread.start()
        self._submit(self._connect)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jobs.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    # What the loop calls.

    def open_study(self, name: str, *, run_id: str | None, tags: Mapping[str, str], note: str) -> str:
        """Create or take up the parent run of a study, close runs of a parent that died, and return its id."""
        self._submit(lambda: self._open_study(name, run_id, tags, note))
        self.flush()
        assert self._parent is not None
        return self._parent

    def close_study(self, status: Status, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """End the parent run."""
        self._submit(lambda: self._close_study(status, metrics, tags))

    def view(self, key: str, state: Mapping[str, Any]) -> None:
        """Publish a view of the runs table: an experiment tag that the UI opens by its key."""
        self._submit(
            lambda: self._client.set_experiment_tag(
                self._experiment_id, f"mlflow.sharedViewState.{key}", json.dumps(state)
            )
        )

    def start(self, trial: int, card: RunCard, about: Mapping[str, Any]) -> None:
        """Create the run of a trial; `about` is what the worker said of it."""
        self._submit(lambda: self._start(trial, card, about))

    def report(self, trial: int, epoch: int, metrics: Mapping[str, float], time_s: float) -> None:
        """Record a trial's metrics of an epoch."""
        self._submit(lambda: self._report(trial, epoch, metrics, time_s))

    def finish(
        self,
        trial: int,
        status: Status,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        traceback: str | None = None,
    ) -> None:
        """End the run of a trial, with what the trial left in its folder as artifacts."""
        self._submit(lambda: self._finish(trial, status, metrics or {}, tags or {}, traceback))

    def run_id(self, trial: int) -> str:
        """Return the MLflow id of a trial's run, waiting for it if need be."""
        self.flush()
        return self._run_ids[trial]

    def run_ids(self) -> dict[int, str]:
        """Return the MLflow ids of the study's trials, by number, those of earlier sweeps included."""
        found: dict[int, str] = {}
        self._submit(lambda: found.update(self._children()))
        self.flush()
        return found

    def flush(self) -> None:
        """Wait until everything submitted so far is written. Raises StoreError if something was not."""
        done = threading.Event()
        self._jobs.put(done.set)
        while not done.wait(0.05) and self._thread.is_alive():
            pass
        self._raise()

    # The thread.

    def _submit(self, job: Callable[[], None]) -> None:
        self._raise()
        self._jobs.put(job)

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            began = time.thread_time()
            try:
                with translated(self._location):
                    job()
            except BaseException as error:  # carried over to the caller's thread
                if not self._failed:
                    self._failed, self._error = True, error
            self.cpu_s += time.thread_time() - began

    def _connect(self) -> None:
        self._client = connect(self._location)
        self._experiment_id = experiment_id(self._client, self._location, self._experiment)
        self.cpu_s = -time.thread_time()  # opening the store is not recording a trial

    def _open_study(self, name: str, run_id: str | None, tags: Mapping[str, str], note: str) -> None:
        from mlflow.exceptions import MlflowException

        if run_id is not None:
            try:
                self._client.update_run(run_id, status="RUNNING")
            except MlflowException:
                run_id = None  # the store was cleaned since: begin a new record
        if run_id is None:
            run = self._client.create_run(
                self._experiment_id, run_name=name, tags=_masked({**tags, "mlflow.note.content": note})
            )
            run_id = run.info.run_id
        else:
            self._close_orphans(run_id)
        self._parent = run_id

    def _children(self) -> dict[int, str]:
        runs = self._client.search_runs(
            [self._experiment_id], f"tags.`mlflow.parentRunId` = '{self._parent}'", max_results=50_000
        )
        return {int(run.data.tags["besom.trial"]): run.info.run_id for run in reversed(runs)}

    def _close_orphans(self, parent: str) -> None:
        running = self._client.search_runs(
            [self._experiment_id], f"tags.`mlflow.parentRunId` = '{parent}' AND attributes.status = 'RUNNING'"
        )
        for run in running:
            self._client.set_tag(run.info.run_id, "besom.state", "INTERRUPTED")
            self._client.set_tag(run.info.run_id, "besom.reason", "the sweep's process died")
            self._client.set_terminated(run.info.run_id, Status.KILLED)

    def _close_study(self, status: Status, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Metric, RunTag

        assert self._parent is not None
        now = int(time.time() * 1000)
        self._client.log_batch(
            self._parent,
            metrics=[Metric(to_key(name), value, now, 0) for name, value in metrics.items()],
            tags=[RunTag(name, value) for name, value in _masked(tags).items()],
        )
        self._client.set_terminated(self._parent, status)

    def _start(self, trial: int, card: RunCard, about: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        run = self._client.create_run(
            self._experiment_id,
            start_time=int(card.began_s * 1000),
            run_name=card.name,
            tags=_masked({**card.tags, **self._lineage(), **_tags(about)}),
        )
        run_id = run.info.run_id
        self._open[trial] = _Open(card, run_id)
        self._run_ids[trial] = run_id
        flat = {to_key(name): str(value) for name, value in (*flatten(card.config), *card.params.items())}
        params = [Param(name, value[:_MAX_VALUE]) for name, value in _masked(flat).items()]
        self._client.log_batch(run_id, params=params)
        if "digest" in about:
            self._client.log_inputs(run_id, datasets=[_dataset(about)])
        config = card.directory / CONFIG
        config.write_text(OmegaConf.to_yaml(OmegaConf.create(dict(card.config))), encoding="utf-8")
        self._client.log_artifact(run_id, str(config))  # at once: a run that is killed keeps its config

    def _lineage(self) -> dict[str, str]:
        return {} if self._parent is None else {"mlflow.parentRunId": self._parent}

    def _report(self, trial: int, epoch: int, metrics: Mapping[str, float], time_s: float) -> None:
        from mlflow.entities import Metric

        run = self._open[trial]
        run.history.append((epoch, metrics))
        run.metrics += [Metric(to_key(name), value, int(time_s * 1000), epoch) for name, value in metrics.items()]
        if time.monotonic() - run.flushed > self._flush_every_s:
            self._flush(run)

    def _flush(self, run: _Open) -> None:
        self._client.log_batch(run.run_id, metrics=run.metrics)
        run.metrics = []
        run.flushed = time.monotonic()

    def _finish(
        self,
        trial: int,
        status: Status,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        traceback: str | None,
    ) -> None:
        from mlflow.entities import Metric, RunTag

        run = self._open.pop(trial)
        directory = run.card.directory
        if "besom.reason" in tags:  # the UI cuts a tag, and shows this whole
            tags = {**tags, "mlflow.note.content": tags["besom.reason"]}
        if traceback is not None:
            (directory / "traceback.txt").write_text(mask(traceback), encoding="utf-8")
        if status is not Status.KILLED:  # who stops a sweep does not want to wait for pictures
            self._artist.draw(run.history, directory)
        now = int(time.time() * 1000)
        last = run.history[-1][0] if run.history else 0
        self._client.log_batch(
            run.run_id,
            metrics=[*run.metrics, *(Metric(to_key(name), value, now, last) for name, value in metrics.items())],
            tags=[RunTag(name, value) for name, value in _masked(tags).items()],
        )
        if any(directory.iterdir()):
            self._client.log_artifacts(run.run_id, str(directory))
        self._client.set_terminated(run.run_id, status)
        shutil.rmtree(directory, ignore_errors=True)


def to_key(name: str) -> str:
    """Return a name as MLflow takes it for a param or a metric: `+trainer.limit` loses its plus, `acc@5` is `acc_5`."""
    return re.sub(r"[^\w/. :-]", "_", name.lstrip("+"))[:_MAX_KEY]


def _masked(values: Mapping[str, str]) -> dict[str, str]:
    return {name: mask(value) for name, value in values.items()}


def _tags(about: Mapping[str, Any]) -> dict[str, str]:
    built = {f"besom.{name}": str(about[name]) for name in ("device", "threads", "parameters") if name in about}
    versions = {f"besom.version.{name}": version for name, version in about.get("versions", {}).items()}
    return {**built, **versions}


def _dataset(about: Mapping[str, Any]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=about["data"],
        digest=about["digest"][:32],  # MLflow's column holds 36 characters
        source_type="local",
        source=json.dumps({"besom": about["data"]}),
        profile=json.dumps(about["sizes"]),
    )
    return DatasetInput(dataset=dataset, tags=[InputTag(key="mlflow.data.context", value="training")])
