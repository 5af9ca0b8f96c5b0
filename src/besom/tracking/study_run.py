"""The runs of a study in MLflow: the parent run, and the trials' runs of earlier sweeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from besom.secrets.masks import all_without_secrets
from besom.tracking.code import CodeState
from besom.tracking.tags import FINALIST, INTERRUPTED, Tag
from besom.tracking.writers.entries import metrics_at, run_tags, to_key

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


_NOTE = 8000  # characters, which every MLflow store accepts


class Status(StrEnum):
    """MLflow's statuses of an ended run."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


@dataclass(frozen=True, kw_only=True)
class RecordedEnd:
    """The ended run of a trial or a finalist: tags, last metrics, start and end in seconds since the epoch."""

    run_id: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    began_s: float
    ended_s: float

    @property
    def duration_s(self) -> float:
        """The duration in seconds."""
        return self.ended_s - self.began_s


class StudyRuns:
    """A study's parent run, which is created or resumed, and the runs of its trials."""

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        name: str,
        *,
        token: str,
        tags: Mapping[str, str],
        note: str,
        notice: Callable[[str], None] = lambda text: None,
        kept: Sequence[str] = (),
        former: Sequence[str] = (),
    ) -> None:
        """Create or resume the study's parent run, and end the runs of a process that died, except those in `kept`.

        The runs `kept` are still to be recorded to their ends. `former` are the ids of parent runs that the study had
        before; their child runs are trials of the study as well.
        """
        from mlflow.entities import ViewType

        self._client = client
        self._experiment_id = experiment_id
        self._notice = notice
        self._recorded_code: set[str] = set()
        self._former = tuple(former)
        wanted = f"tags.`{Tag.TOKEN}` = '{token}'"
        parents = client.search_runs([experiment_id], wanted, max_results=1)
        parents = parents or client.search_runs([experiment_id], wanted, ViewType.DELETED_ONLY, max_results=1)
        if parents:
            self.run_id: str = parents[0].info.run_id
            self._restore()
            client.update_run(self.run_id, status="RUNNING")
            self._close_orphans(kept)
        else:
            all_tags = all_without_secrets({**tags, Tag.TOKEN: token, Tag.NOTE: note})
            self.run_id = client.create_run(experiment_id, run_name=name, tags=all_tags).info.run_id

    def run_ids(self) -> dict[int, str]:
        """Return the latest run of each trial, by the trial's number."""
        return {int(run.data.tags[Tag.TRIAL]): run.info.run_id for run in reversed(list(self._trials()))}

    def ends(self, trials: set[int]) -> dict[int, RecordedEnd]:
        """Return how these trials ended, as far as their runs are over."""
        if not trials:
            return {}
        over = (run for run in self._trials() if run.data.tags.get(Tag.STATE) in ("COMPLETE", "PRUNED", "FAIL"))
        return {
            int(run.data.tags[Tag.TRIAL]): _end(run)
            for run in over
            if int(run.data.tags[Tag.TRIAL]) in trials and run.info.status != "RUNNING"
        }

    def finalists(self) -> list[RecordedEnd]:
        """Return how the complete runs of finalists ended."""
        runs = self._search(f" AND tags.`{Tag.KIND}` = '{FINALIST}' AND attributes.status = '{Status.FINISHED}'")
        return [_end(run) for run in runs]

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """Return a metric's values by the axis of its run."""
        return {point.step: point.value for point in self._client.get_metric_history(run_id, to_key(metric))}

    def keep(self, code: CodeState) -> None:
        """Log the code that a run is trained with, once; later sweeps and workers may have other code."""
        if code.folder not in self._recorded_code:
            self._restore()
            code.log(self._client, self.run_id)
            self._client.log_batch(self.run_id, tags=run_tags(code.tags))
            self._recorded_code.add(code.folder)

    def close(self, status: Status, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """End the parent run."""
        self._restore()
        points = metrics_at(metrics, step=0, time_s=time.time())
        self._client.log_batch(self.run_id, metrics=points, tags=run_tags(tags))
        self._client.set_terminated(self.run_id, status)

    def describe(self, note: str, files: Mapping[str, str]) -> None:
        """Set the parent run's description and add texts to its artifacts."""
        self._restore()
        self._client.set_tag(self.run_id, Tag.NOTE, note[:_NOTE])
        for name, text in files.items():
            self._client.log_text(self.run_id, text, name)

    def _trials(self) -> Iterator[Run]:
        """Return the runs of the study's trials, the latest first."""
        return (run for run in self._search() if Tag.TRIAL in run.data.tags)

    def _search(self, more: str = "") -> Iterator[Run]:
        """Yield the child runs of the study, including finalists, the latest first."""
        for parent in dict.fromkeys((self.run_id, *self._former)):
            page = None
            while True:
                runs = self._client.search_runs(
                    [self._experiment_id], f"tags.`{Tag.PARENT_RUN}` = '{parent}'{more}", page_token=page
                )
                yield from runs
                page = runs.token
                if not page:
                    break

    def _restore(self) -> None:
        """Restore the parent run if it was deleted: the trials' runs and their code are found through it."""
        if self._client.get_run(self.run_id).info.lifecycle_stage != "active":
            self._client.restore_run(self.run_id)
            self._notice(f"the study's run {self.run_id} was deleted in MLflow; it is restored, for its trials go on")

    def _close_orphans(self, kept: Sequence[str]) -> None:
        running = list(self._search(" AND attributes.status = 'RUNNING'"))
        for run in [run for run in running if run.info.run_id not in kept]:
            self._client.set_tag(run.info.run_id, Tag.STATE, INTERRUPTED)
            self._client.set_tag(run.info.run_id, Tag.REASON, "the sweep's process died")
            self._client.set_terminated(run.info.run_id, Status.KILLED)


def _end(run: Run) -> RecordedEnd:
    return RecordedEnd(
        run_id=run.info.run_id,
        tags=dict(run.data.tags),
        metrics=dict(run.data.metrics),
        began_s=run.info.start_time / 1000,
        ended_s=(run.info.end_time or run.info.start_time) / 1000,
    )
