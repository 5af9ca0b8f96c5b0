"""Writes runs to MLflow in the background: workers never wait for it, and the parent hardly does.

A trial's run is created when the trial starts, with its params, tags and config; its metrics are buffered and
written at once at the end, or every few seconds if the trial is long, so that the UI shows it live.

The thread is that of `background`; what it writes of trials is in `trial_runs`, and what becomes of it while a server
is away, in `patience` and `outbox`.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from besom.config.paths import file_name
from besom.errors import RunNotFound, StoreError
from besom.system.locks import locked
from besom.system.source_file import SourceFile
from besom.system.sqlite_files import complete
from besom.system.store_errors import Trouble
from besom.tracking.code import CodeState, code_state
from besom.tracking.places import recording_lock
from besom.tracking.recorder.background import Background, Job
from besom.tracking.recorder.outbox import Kept, Outbox
from besom.tracking.recorder.patience import WAIT_S, Patience, Wish, patient
from besom.tracking.recorder.told_runs import Backlog, ToldRun
from besom.tracking.recorder.told_runs import RunCard as RunCard
from besom.tracking.recorder.trial_runs import TrialRuns
from besom.tracking.runs import config_of
from besom.tracking.sources import SourceKeeper
from besom.tracking.store import Location, connect, experiment_id, translated
from besom.tracking.study_run import RecordedEnd, Status, StudyRuns
from besom.tracking.ui.views import publish
from besom.tracking.writers.client_writer import writer_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

FLUSH_EVERY_S = 5.0

_UNRECORDED = "unrecorded"
_GRACE_S = 5.0  # for a call in the middle of which the user stops

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


class Recorder:
    """One thread that owns the MLflow client; every method returns at once and its work happens in order.

    What fails there first is raised, once, as StoreError by the next call or on exit. What is submitted from then on,
    by that call too, is still tried, since runs should be closed where they can be, but not told of.
    """

    def __init__(
        self,
        location: Location,
        experiment: str,
        *,
        views: bool = True,
        flush_every_s: float = FLUSH_EVERY_S,
        wait_s: float = WAIT_S,
    ) -> None:
        self._location = location
        self._experiment = experiment
        self._views = views
        self._background = Background("recorder", partial(translated, location))
        self._notices: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._patience = Patience(location, self._notices.put, wait_s)
        self._runs = TrialRuns(flush_every_s=flush_every_s, notice=self._notices.put)
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._backlog = Backlog()
        self._outbox = Outbox(location.directory / _UNRECORDED / file_name(experiment or "runs"))
        self._code = SourceKeeper(CodeState())
        self._held = contextlib.ExitStack()
        self._hurried = False
        self._client: MlflowClient
        self._experiment_id: str

    def __enter__(self) -> Self:
        self._location.prepare()
        self._background.start()
        self._submit(self._connect)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._patience.end()
        grace_s = 0.0 if self.is_away else _GRACE_S if self._patience.is_over else None
        self._background.end(within_s=grace_s)
        self._held.close()
        if self._location.is_local:
            complete(self._location.database)
        if kind is None:
            self._background.raise_failure()

    # What the loop calls.

    def open_study(
        self, name: str, *, token: str, tags: Mapping[str, str], note: str, former: Sequence[str] = ()
    ) -> str:
        """Create or take up the parent run of a study, close runs of a parent that died, and return its id.

        `token` is the study's own, by which its parent run is found again; `former` are the ids of those that it had.
        """

        self._outbox = Outbox(self._location.directory / _UNRECORDED / token)
        kept = [run.run_id for run in self._outbox.waiting() if run.run_id is not None]

        def take_up() -> None:
            self._runs.study = StudyRuns(
                self._client, self._experiment_id, name, token=token, tags=tags, note=note, notice=self._notices.put,
                kept=kept, former=former,
            )  # fmt: skip

        self._submit(take_up)
        return self.parent_run_id()

    def parent_run_id(self) -> str:
        """Return the MLflow id of the study's parent run, waiting for it if need be."""
        self.flush()
        return self._of_study().run_id

    def keep_code(self) -> None:
        """Find out by which code the runs to come are trained; it is recorded with their study, or with each run.

        Git and the list of packages take a while, in which nobody waits: workers import meanwhile.
        """

        def look() -> None:
            self._code = SourceKeeper(code_state(besides=[self._location.directory]))

        self._submit(look)

    def close_study(self, status: Status, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """End the parent run."""
        self._submit(lambda: self._of_study().close(status, metrics, tags))

    @property
    def keeps(self) -> bool:
        """Whether anything that it is given can be found again."""
        return True

    def tell_of_study(self, note: str, files: Mapping[str, str]) -> None:
        """Set the parent run's description, in Markdown, and add texts to its artifacts by their names."""
        self._submit(lambda: self._of_study().tell(note, files))

    def view(self, key: str, state: Mapping[str, Any], *smaller: Mapping[str, Any]) -> None:
        """Publish a view of the runs table, if views are wanted: an experiment tag that the UI opens by its key.

        Of several, it is the first that is not too large for the store.
        """

        if self._views:
            self._submit(lambda: publish(self._client, self._experiment_id, key, (state, *smaller)))

    def start(
        self, trial: int, card: RunCard, about: Mapping[str, Any], sources: Sequence[SourceFile] | None = None
    ) -> None:
        """Create the run of a trial; `about` and `sources` are what the worker said of it, as in `Started`."""
        run = ToldRun(trial=trial, card=card, about=about, sources=sources)
        self._backlog.begin(run)
        self._submit(lambda: self._start(run))

    def report(self, trial: int, epoch: int, metrics: Mapping[str, float], time_s: float) -> None:
        """Record a trial's metrics of an epoch."""
        self._backlog.report(trial, epoch, metrics, time_s)
        self._submit(lambda: self._runs.report(trial, epoch, metrics, time_s))

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
        """End the run of a trial, with what the trial left in its folder as artifacts.

        `last` says that the trial is over with it, and will not be tried again. It ended at `ended_s`, in seconds since
        the epoch, or now: the run does not wait in that time for what was to be recorded before it.
        """
        end = {
            "status": status, "metrics": metrics or {}, "tags": tags or {}, "traceback": traceback,
            "ended_s": time.time() if ended_s is None else ended_s, "last": last,
        }  # fmt: skip
        run = self._backlog.end(trial, end)
        self._submit(lambda: self._finish(run))

    def ended(self) -> list[int]:
        """Return the trials that are over and whose last run is written, each once."""
        with self._unless_hurried():
            self._background.raise_failure()
        return _drained(self._ended)

    def notices(self) -> list[str]:
        """Return what the user should know of the store, each once."""
        if not self._location.is_local and self._background.is_long_at_work(_GRACE_S):
            self._patience.look()
        return _drained(self._notices)

    def ends(self, trials: Sequence[int]) -> dict[int, RecordedEnd]:
        """Return how those of these trials ended whose runs say that they are over."""
        return self._asked(lambda: self._of_study().ends(set(trials)), {})

    def finalists(self) -> list[RecordedEnd]:
        """Return how those of the finalists' runs ended that are complete."""
        return self._asked(lambda: self._of_study().finalists(), [])

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """Return a metric's values by epoch."""
        return self._asked(lambda: self._of_study().history(run_id, metric), {})

    def config(self, run_id: str) -> Mapping[str, Any]:
        """Return the config that a run was recorded with. Raises RunNotFound when it has none."""

        def read() -> Mapping[str, Any] | RunNotFound:
            try:
                return config_of(self._client, self._location, run_id)
            except RunNotFound as error:
                return error

        away: Mapping[str, Any] | RunNotFound = RunNotFound(
            f"run '{run_id}' cannot be read: nothing is recorded any more"
        )
        found = self._asked(read, away)
        if isinstance(found, RunNotFound):
            raise found
        return found

    def run_id(self, trial: int) -> str:
        """Return the MLflow id of a trial's run, waiting for it if need be."""
        self.flush()
        return self._runs.ids[trial]

    def run_ids(self) -> dict[int, str]:
        """Return the MLflow ids of the study's trials, by number, those of earlier sweeps included."""
        found: dict[int, str] = self._asked(lambda: self._of_study().run_ids(), {})
        return found or dict(self._runs.ids)  # where the store is away, what is known of it

    def flush(self) -> None:
        """Wait until everything submitted so far is written. Raises StoreError if something was not."""
        self._background.flush()

    @property
    def cpu_s(self) -> float:
        """The processor time that recording has taken, in seconds; opening the store is not in it."""
        return self._background.cpu_s

    # A store that is away.

    def hurry(self) -> None:
        """Wait no more for a server that is away: who stops does not want to. What it misses, `wait` keeps."""
        self._hurried = True
        self._patience.end()

    def wait(self, stop: Wish, notice: Callable[[str], None]) -> Kept:
        """Wait until everything submitted so far is written, and, once there is a wish to stop, for no server.

        What a server that is away has missed by then is kept as files, for `record_kept`; `notice` hears meanwhile what
        the user should know. Raises StoreError if something else was not written.
        """
        for idle_s in self._background.until_done():
            for text in self.notices():
                notice(text)
            if stop.asked:
                stop.noticed = True
                self._patience.end()
                if idle_s > _GRACE_S and (stop.at_once or not self._patience.is_answering(within_s=_GRACE_S)):
                    break  # it is in the middle of a call that nobody answers
        error = None
        try:
            self._background.raise_failure()
        except StoreError as raised:
            if raised.trouble != Trouble.UNREACHABLE:
                raise
            error = raised
        if self._location.is_local or not self._backlog:
            return Kept(error=error)
        self._patience.end()
        self._background.leave()  # what it still has to do would be done twice
        return Kept(trials=self._outbox.take(self._backlog, self._code), error=error)

    def record_kept(self) -> list[int]:
        """Record what an earlier process kept as files; return the trials."""
        kept, recorded = self._outbox.waiting(), list[int]()
        for run in kept:
            self._submit(partial(self._record_kept, run, recorded))
        if kept:
            self.flush()
        return recorded

    @property
    def is_away(self) -> bool:
        """Whether nothing is recorded any more: what was left to do is kept as files."""
        return self._background.is_left

    @contextlib.contextmanager
    def _unless_hurried(self) -> Iterator[None]:
        """Let pass that a server is away, once nobody waits for it."""
        try:
            yield
        except StoreError as error:
            if not (self._hurried and error.trouble == Trouble.UNREACHABLE):
                raise

    # The thread.

    def _submit(self, job: Job) -> None:
        with self._unless_hurried():
            self._background.submit(job)

    def _asked(self, question: Callable[[], _Answer], unknown: _Answer) -> _Answer:
        """Return the answer to a question that the thread asks the store; `unknown` where that is away."""
        answers: list[_Answer] = []
        self._submit(lambda: answers.append(question()))
        self.flush()
        return answers[0] if answers else unknown

    def _connect(self) -> None:
        self._client = patient(connect(self._location), self._location, self._patience)
        if self._location.is_local:
            self._held.enter_context(locked(recording_lock(self._location.directory), wait=True, share=True))
        self._experiment_id = experiment_id(self._client, self._location, self._experiment)
        self._runs.open(self._client, writer_of(self._client, self._location, self._experiment_id))
        self._background.cpu_s = -time.thread_time()  # opening the store is not recording a trial

    def _of_study(self) -> StudyRuns:
        assert self._runs.study is not None
        return self._runs.study

    def _start(self, run: ToldRun) -> None:
        run.find_code(self._code)
        self._runs.start(run)

    def _finish(self, run: ToldRun) -> None:
        self._runs.finish(run)
        self._backlog.drop(run)
        if run.end["last"]:  # and only if it is written
            self._ended.put(run.trial)

    def _record_kept(self, run: ToldRun, recorded: list[int]) -> None:
        try:
            with translated(self._location):
                run.find_code(self._code)
                self._runs.record(run)
        except StoreError as error:
            if error.trouble == Trouble.UNREACHABLE:
                raise
            self._notices.put(f"the run of trial {run.trial}, kept in {self._outbox.folder}, is not recorded: {error}")
            return
        self._outbox.drop(run)
        recorded.append(run.trial)


def _drained(waiting: queue.SimpleQueue[_Item]) -> list[_Item]:
    found = []
    with contextlib.suppress(queue.Empty):
        while True:
            found.append(waiting.get_nowait())
    return found
