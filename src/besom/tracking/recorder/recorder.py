"""Writes runs to MLflow in the background: workers never wait for it, and the parent process hardly does.

A trial's run is created when the trial starts, with its params, tags and config. Its metrics are buffered and written
together at the end, or every few seconds if the trial is long, so that the UI shows it live.

The thread is in `store_thread`, the open store in `session`, the writing of trials in `trial_runs`; `patience` and
`outbox` deal with an unreachable server.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from besom.config.extras.logged import Log
from besom.config.paths import file_name
from besom.system.source_file import SourceFile
from besom.tracking.recorder.outbox import KeptRuns, Outbox
from besom.tracking.recorder.patience import WAIT_S, StopRequest
from besom.tracking.recorder.pending_runs import Backlog, PendingRun
from besom.tracking.recorder.pending_runs import RunCard as RunCard
from besom.tracking.recorder.questions import Questions
from besom.tracking.recorder.session import StoreSession
from besom.tracking.recorder.store_thread import NullStoreThread, StoreThread
from besom.tracking.run_links import RunLinks
from besom.tracking.store import Location
from besom.tracking.study_run import Status

_FLUSH_EVERY_S = 5.0

_UNRECORDED = "unrecorded"

_Item = TypeVar("_Item")


class Recorder(Questions):
    """Records runs by one thread that owns the MLflow client; calls return at once, and their work is done in order.

    The first failure is raised once, as StoreError, by the next call or on exit. Work submitted from then on, including
    by that call, is still tried, because runs should be ended where they can be; its failures are not reported.

    Without a location (`tracking=none`), nothing is recorded, and ids are empty; the trials' folders are removed alike.
    `persists` is true if what is recorded can be read back.
    """

    def __init__(
        self,
        location: Location | None,
        experiment: str,
        *,
        views: bool = True,
        flush_every_s: float = _FLUSH_EVERY_S,
        wait_s: float = WAIT_S,
    ) -> None:
        self.persists = location is not None
        self._location = location = location or Location(uri="", directory=Path())
        self._views = views
        self._notices: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = (StoreThread if self.persists else NullStoreThread)(location, self._notices.put, wait_s)
        self._session = StoreSession(
            location, experiment, patience=self._thread.patience, notice=self._notices.put, flush_every_s=flush_every_s
        )
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._backlog = Backlog()
        self._outbox = Outbox(location.directory / _UNRECORDED / file_name(experiment or "runs"))

    def __enter__(self) -> Self:
        self._thread.start()
        self._thread.submit(self._open)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._thread.patience.end()
        self._thread.close()
        self._session.close()
        if kind is None:
            self._thread.raise_failure()

    def open_study(
        self, name: str, *, token: str, tags: Mapping[str, str], note: str, former: Sequence[str] = ()
    ) -> str:
        """Create or resume the parent run of a study, end the runs of a process that died, and return its id.

        `token` identifies the study's parent run; `former` are the ids of parent runs that the study had before.
        """
        self._outbox = Outbox(self._location.directory / _UNRECORDED / token)
        kept = [run.run_id for run in self._outbox.waiting() if run.run_id is not None]
        self._thread.submit(
            lambda: self._session.open_study(name, token=token, tags=tags, note=note, kept=kept, former=former)
        )
        return self.parent_run_id()

    def parent_run_id(self) -> str:
        """Return the MLflow id of the study's parent run, waiting for it if need be."""
        self.flush()
        return self._session.study.run_id if self.persists else ""

    def links(self) -> RunLinks | None:
        """Return what links a job's own runs to those of the study; None if nothing is recorded."""
        return self._thread.ask(lambda: self._session.links(), None)

    def keep_code(self) -> None:
        """Read the state of the code that the next runs are trained with; workers import while git runs."""
        self._thread.submit(self._session.read_code)

    def close_study(self, status: Status, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """End the parent run."""
        self._thread.submit(lambda: self._session.study.close(status, metrics, tags))

    def describe_study(self, note: str, files: Mapping[str, str]) -> None:
        """Set the parent run's description, in Markdown, and add text artifacts by their names."""
        self._thread.submit(lambda: self._session.study.describe(note, files))

    def view(self, key: str, state: Mapping[str, Any], *smaller: Mapping[str, Any]) -> None:
        """Publish the first of these views of the runs table that the store accepts, if views are enabled."""
        if self._views:
            self._thread.submit(lambda: self._session.publish(key, (state, *smaller)))

    def start(
        self, trial: int, card: RunCard, about: Mapping[str, Any], sources: Sequence[SourceFile] | None = None
    ) -> None:
        """Create the run of a trial; `about` and `sources` are what the worker reported, as in `Started`."""
        run = PendingRun(trial=trial, card=card, about=about, sources=sources)
        self._backlog.begin(run)
        self._thread.submit(lambda: self._session.start(run))

    def report(self, trial: int, step: int, metrics: Mapping[str, float], time_s: float) -> None:
        """Record a trial's metrics at a number on its run's axis, such as an epoch."""
        self._backlog.report(trial, step, metrics, time_s)
        self._thread.submit(lambda: self._session.runs.report(trial, step, metrics, time_s))

    def log(self, trial: int, log: Log) -> None:
        """Record what a trial's logger has received, before the report that it precedes."""
        if not self._location.is_local:  # only the runs of a server are kept as files
            self._backlog.log(trial, log)
        self._thread.submit(lambda: self._session.runs.log(trial, log))

    def finish(
        self,
        trial: int,
        status: Status,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        traceback: str | None = None,
        last: bool = True,
        ended_s: float | None = None,
    ) -> None:
        """End the run of a trial, log the files in the trial's folder as artifacts, and remove the folder.

        With `last`, the trial is over and will not be tried again. `ended_s` is when it ended, in seconds since the
        epoch, by default now; the time that the run waits to be recorded does not count.
        """
        end = {
            "status": status, "metrics": metrics or {}, "tags": tags or {}, "traceback": traceback,
            "ended_s": time.time() if ended_s is None else ended_s, "last": last,
        }  # fmt: skip
        run = self._backlog.end(trial, end)
        if self.persists:
            self._thread.submit(lambda: self._finish(run))
        else:
            self._release(run)

    def ended(self) -> list[int]:
        """Return the trials that are over and whose last run is written, each once."""
        self._thread.raise_failure_unless_hurried()
        return _drained(self._ended)

    def notices(self) -> list[str]:
        """Return messages about the store for the user, each once."""
        self._thread.check_server()
        return _drained(self._notices)

    def run_id(self, trial: int) -> str:
        """Return the MLflow id of a trial's run, waiting for it if need be."""
        self.flush()
        return self._session.runs.ids[trial] if self.persists else ""

    def flush(self) -> None:
        """Wait until everything submitted so far is written. Raises StoreError if something was not."""
        self._thread.flush()

    @property
    def cpu_s(self) -> float:
        """The processor time that recording has taken, in seconds, without opening the store."""
        return self._thread.cpu_s

    def hurry(self) -> None:
        """Stop waiting for an unreachable server, because the user stops the sweep; `wait` keeps what is missing."""
        self._thread.hurry()

    def wait(self, stop: StopRequest, notice: Callable[[str], None]) -> KeptRuns:
        """Wait until everything submitted so far is written, and, once `stop` is set, for no server.

        Runs that an unreachable server has missed by then are kept as files, for `record_kept`. `notice` receives
        messages for the user meanwhile. Raises StoreError if something else was not written.
        """
        error = self._thread.wait(stop, self.notices, notice)
        if self._location.is_local or not self._backlog:
            return KeptRuns(error=error)
        self._thread.patience.end()
        self._thread.abandon()  # the remaining jobs would record the kept runs a second time
        return KeptRuns(trials=self._outbox.take(self._backlog, self._session.code), error=error)

    def record_kept(self) -> list[int]:
        """Record the runs that an earlier process kept as files; return their trials."""
        kept, recorded = self._outbox.waiting(), list[int]()
        for run in kept:
            self._thread.submit(partial(self._record_kept, run, recorded))
        if kept:
            self.flush()
        return recorded

    @property
    def is_away(self) -> bool:
        """True if nothing is recorded any more, because the remaining runs are kept as files."""
        return self._thread.is_abandoned

    def _open(self) -> None:
        self._session.open()
        self._thread.cpu_s = -time.thread_time()  # opening the store does not count as recording

    def _finish(self, run: PendingRun) -> None:
        self._session.runs.finish(run)
        self._release(run)  # only now that it is written

    def _release(self, run: PendingRun) -> None:
        shutil.rmtree(run.card.directory, ignore_errors=True)
        self._backlog.drop(run)
        if run.end["last"]:
            self._ended.put(run.trial)

    def _record_kept(self, run: PendingRun, recorded: list[int]) -> None:
        error = self._session.record(run)
        if error is not None:
            self._notices.put(f"the run of trial {run.trial}, kept in {self._outbox.folder}, is not recorded: {error}")
            return
        self._outbox.drop(run)
        recorded.append(run.trial)


def _drained(items: queue.SimpleQueue[_Item]) -> list[_Item]:
    drained = []
    with contextlib.suppress(queue.Empty):
        while True:
            drained.append(items.get_nowait())
    return drained
