"""Writing the runs of trials: created with params, tags and config, then metrics, at the end their files."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from besom.config.checks import flatten
from besom.config.extras.artifacts import is_own_file
from besom.config.extras.logged import Log
from besom.config.trainer import BEST_WEIGHTS, WORK
from besom.config.units import EPOCH_METRIC, Unit
from besom.secrets.masks import all_without_secrets, hidden, without_secrets
from besom.system.store_errors import is_absent
from besom.tracking.figures import draw
from besom.tracking.recorder.pending_runs import PendingRun, RunCard
from besom.tracking.study_run import Status, StudyRuns
from besom.tracking.tags import Tag
from besom.tracking.writers.entries import as_markdown, config_text, dataset, metrics_at, params_of, tags_about, to_key
from besom.tracking.writers.writer import NewRun, Writer

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric


@dataclass(eq=False)
class _OpenRun:
    run_id: str
    known: set[str]  # the params that it has
    has_epochs: bool  # in its reports
    metrics: list[Metric] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    by_step: set[str] = field(default_factory=set)
    history: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    flushed: float = field(default_factory=time.monotonic)


class TrialRuns:
    """Writes runs, from one thread only after `open`; `notice` receives messages for the user.

    `study` is the study that they belong to, if any; `ids` has the latest run of each trial.
    """

    def __init__(self, *, flush_every_s: float, notice: Callable[[str], None]) -> None:
        self.study: StudyRuns | None = None
        self.ids: dict[int, str] = {}
        self._flush_every_s = flush_every_s
        self._notice = notice
        self._open: dict[int, _OpenRun] = {}
        self._first_ids: dict[int, str] = {}
        self._names_by_key: dict[str, dict[str, None]] = {}  # of metrics, by their name in MLflow
        self._client: MlflowClient
        self.writer: Writer

    def open(self, client: MlflowClient, writer: Writer) -> None:
        """Set the store to write to."""
        self._client, self.writer = client, writer

    def record(self, run: PendingRun) -> None:
        """Record a whole run, a part of which the store may have already."""
        if run.run_id is not None and not self._has(run.run_id):  # the store is another one now
            run.run_id = None
        self.start(run)
        for log in run.logs:
            self.log(run.trial, log)
        for report in run.reports:
            self.report(run.trial, *report)
        self.finish(run)

    def start(self, run: PendingRun) -> None:
        """Create a run, or continue the one that the store has, and set its id."""
        trial, card, about = run.trial, run.card, run.about
        axis = {} if card.axis is Unit.EPOCH else {Tag.AXIS: str(card.axis)}
        tags = {**run.code, **card.tags, **axis, **self._lineage(trial, card), **tags_about(about)}
        sampled = ((key, hidden(key, value)) for key, value in card.params.items())
        new = NewRun(
            name=f"{card.name}-retry-{card.attempt}" if card.attempt else card.name,
            began_ms=int(card.began_s * 1000),
            tags=all_without_secrets(tags),
            params=params_of((*flatten(card.config), *sampled)),
            data=dataset(about) if "digest" in about else None,
            config=config_text(card.config),  # at the start, so that a killed run has its config
            run_id=run.run_id,
            chosen_id=card.run_id,
        )

        def on_created(run_id: str) -> None:
            if not card.attempt:
                self._first_ids[trial] = run_id
            self._open[trial] = _OpenRun(
                run_id, known={param.key for param in new.params}, has_epochs=card.axis is Unit.STEP
            )
            self.ids[trial] = run.run_id = run_id

        self.writer.create(new, card.directory, on_created)
        if run.code_files:
            self._keep_code(run)

    def report(self, trial: int, step: int, metrics: Mapping[str, float], time_s: float) -> None:
        """Buffer a trial's metrics of a report; they are written at its end, or every `flush_every_s` seconds."""
        run = self._open[trial]
        self._notice_renamed(metrics)
        run.history.append((step, metrics))
        by_report = {name: value for name, value in metrics.items() if name not in run.by_step}
        run.metrics += metrics_at(by_report, step=step, time_s=time_s)
        if time.monotonic() - run.flushed > self._flush_every_s:
            self._flush(run)

    def log(self, trial: int, log: Log) -> None:
        """Buffer what a trial's logger has received, as `report` does; from now on, reports leave out its metrics."""
        run = self._open[trial]
        for point in log.points:
            # By step, each report has the epoch, which Lightning counts from 0.
            kept = {name: value for name, value in point.metrics.items() if name != EPOCH_METRIC or not run.has_epochs}
            self._notice_renamed(kept)
            run.by_step.update(kept)
            run.metrics += metrics_at(kept, step=point.step, time_s=point.time_s)
        run.params.update({name: hidden(name, value) for name, value in log.params.items()})
        run.tags.update(log.tags)
        if time.monotonic() - run.flushed > self._flush_every_s:
            self._flush(run)

    def _flush(self, run: _OpenRun) -> None:
        params = [param for param in params_of(run.params.items()) if param.key not in run.known]
        self.writer.add(run.run_id, metrics=run.metrics, params=params, tags=run.tags)
        run.known.update(param.key for param in params)
        run.metrics, run.params, run.tags = [], {}, {}
        run.flushed = time.monotonic()

    def finish(self, run: PendingRun) -> None:
        """End a run with the files in its trial's folder as artifacts."""
        written = self._open.pop(run.trial)
        if written.params:
            self._flush(written)
        status, tags, ended_s = Status(run.end["status"]), {**written.tags, **run.end["tags"]}, run.end["ended_s"]
        if written.by_step:
            tags = {**tags, Tag.BY_STEP: json.dumps(sorted(map(to_key, written.by_step)))}
        directory = run.card.directory
        for name in keep_artifacts(directory, run.card.config.get("artifacts") or ()):
            self._notice(f"artifacts: {name} is the name of an artifact of Besom's own, so that this file is not kept")
        if Tag.REASON in tags:  # the UI truncates a tag, but shows the note whole
            tags = {**tags, Tag.NOTE: as_markdown(tags[Tag.REASON])}
        if run.end["traceback"] is not None:
            (directory / "traceback.txt").write_text(without_secrets(run.end["traceback"]), encoding="utf-8")
        if (
            status is not Status.KILLED and run.card.config.get("figures") != "none"
        ):  # a user who stops a sweep does not want to wait
            draw(written.history, directory, axis=run.card.axis)
        last = written.history[-1][0] if written.history else 0
        final = metrics_at(run.end["metrics"], step=last, time_s=ended_s)
        self.writer.finish(
            written.run_id,
            status,
            metrics=[*written.metrics, *final],
            tags=tags,
            directory=directory,
            ended_ms=int(ended_s * 1000),
        )

    def _has(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return str(self._client.get_run(run_id).info.lifecycle_stage) == "active"
        except MlflowException as error:
            if is_absent(error):
                return False
            raise

    def _lineage(self, trial: int, card: RunCard) -> dict[str, str]:
        tags = {} if self.study is None else {Tag.PARENT_RUN: self.study.run_id}
        if card.attempt:
            tags |= {Tag.ATTEMPT: str(card.attempt)}
            if trial in self._first_ids:  # otherwise an earlier process recorded it
                tags |= {Tag.FIRST_RUN: self._first_ids[trial]}
        return tags

    def _keep_code(self, run: PendingRun) -> None:
        if self.study is not None:
            self.study.keep(run.code_state)
        else:
            run.code_state.log(self._client, self.ids[run.trial])

    def _notice_renamed(self, names: Iterable[str]) -> None:
        """Notify once of each metric that MLflow records by another name, and of two that share a name there."""
        for name in names:
            key = to_key(name)
            known = self._names_by_key.setdefault(key, {})
            if name not in known:
                known[name] = None
                others = ", ".join(f"'{other}'" for other in known if other != name)
                if others:
                    self._notice(f"metrics {others} and '{name}' are both recorded as '{key}'; rename one")
                elif name != key:
                    self._notice(f"metric '{name}' is recorded as '{key}', for MLflow takes no such name")


def keep_artifacts(directory: Path, patterns: Iterable[str]) -> list[str]:
    """Keep those files of callbacks and loggers that match a pattern, at their paths; remove the others.

    In a pattern, `*` stands for anything in a name and `**` for any folders. Returns the names of files that are not
    kept, since Besom's own files have them.
    """
    work, refused = directory / WORK, list[str]()
    for pattern in patterns:
        # A pattern that ends with ** gives files from Python 3.13 on, folders alone before.
        for path in sorted(work.glob(f"{pattern}/*" if pattern.endswith("**") else pattern)):
            if path.is_file() and not path.is_symlink() and not path.name.startswith(BEST_WEIGHTS):
                name = path.relative_to(work)
                if is_own_file(name.as_posix()):
                    refused.append(name.as_posix())
                    continue
                target = directory / name
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
    shutil.rmtree(work, ignore_errors=True)
    return refused
