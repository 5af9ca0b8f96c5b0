"""Writes runs to MLflow in the background: workers never wait for it, and the parent hardly does.

A trial's run is created when the trial starts, with its params, tags and config; its metrics are buffered and
written at once at the end, or every few seconds if the trial is long, so that the UI shows it live.
"""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from besom.config import flatten
from besom.conversation import SourceFile
from besom.errors import StoreError
from besom.locks import locked
from besom.paths import file_name
from besom.secrets import all_without_secrets, hidden, without_secrets
from besom.sqlite_files import complete
from besom.store_errors import Trouble, is_absent
from besom.tracking.code_state import CodeState, code_state
from besom.tracking.entries import as_markdown, config_text, dataset, metrics_at, params_of, tags_about, to_key
from besom.tracking.figures import draw
from besom.tracking.outbox import Outbox, Told
from besom.tracking.outbox import RunCard as RunCard
from besom.tracking.patience import WAIT_S, Patience, Wish, patient
from besom.tracking.places import recording_lock
from besom.tracking.sources import SourceKeeper
from besom.tracking.store import Location, check_reachable, connect, experiment_id, translated
from besom.tracking.study_runs import RecordedEnd, Status, StudyRuns
from besom.tracking.views import view_tag
from besom.tracking.writers import NewRun, Writer, writer_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

FLUSH_EVERY_S = 5.0

_UNRECORDED = "unrecorded"
_GRACE_S = 5.0  # for a call in the middle of which the user stops

_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is not recorded, and kept as files: the trials that are over by it, and why."""

    trials: Sequence[int] = ()
    error: StoreError | None = None


@dataclass(eq=False)
class _Open:
    card: RunCard
    run_id: str
    metrics: list[Metric] = field(default_factory=list)
    history: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    flushed: float = field(default_factory=time.monotonic)


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
        self._views = views
        self._location = location
        self._experiment = experiment
        self._flush_every_s = flush_every_s
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._error: BaseException | None = None
        self._failed = False
        self._left = False
        self._open: dict[int, _Open] = {}
        self._run_ids: dict[int, str] = {}
        self._first_ids: dict[int, str] = {}
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._notices: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._patience = Patience(location, self._notices.put, wait_s)
        self._outbox = Outbox(location.directory / _UNRECORDED / file_name(experiment or "runs"))
        self._telling: dict[int, Told] = {}
        self._unrecorded: dict[Told, None] = {}  # in the order in which they began
        self._done = 0  # jobs
        self._busy_since: float | None = None
        self._held = contextlib.ExitStack()
        self._keys: dict[str, dict[str, None]] = {}  # the metrics' names by MLflow's
        self._study: StudyRuns | None = None
        self._sources = SourceKeeper(CodeState())
        self._client: MlflowClient
        self._experiment_id: str
        self._writer: Writer
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
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._patience.end()
        self._thread.join(_GRACE_S if self._patience.is_over else None)
        self._held.close()
        if self._location.is_local:
            complete(self._location.database)
        if kind is None:
            self._raise()

    # What the loop calls.

    def open_study(self, name: str, *, token: str, tags: Mapping[str, str], note: str) -> str:
        """Create or take up the parent run of a study, close runs of a parent that died, and return its id.

        `token` is the study's own, by which its parent run is found again.
        """

        self._outbox = Outbox(self._location.directory / _UNRECORDED / token)
        kept = [told.run_id for told in self._outbox.waiting() if told.run_id is not None]

        def take_up() -> None:
            self._study = StudyRuns(
                self._client, self._experiment_id, name, token=token, tags=tags, note=note, notice=self._notices.put,
                kept=kept,
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
            self._sources = SourceKeeper(code_state(besides=[self._location.directory]))

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

        def publish() -> None:
            from mlflow.exceptions import MlflowException

            for one in (state, *smaller):
                try:
                    self._client.set_experiment_tag(self._experiment_id, view_tag(key), json.dumps(one))
                    return
                except MlflowException:
                    if one is (state, *smaller)[-1]:
                        raise

        if self._views:
            self._submit(publish)

    def start(
        self, trial: int, card: RunCard, about: Mapping[str, Any], sources: Sequence[SourceFile] | None = None
    ) -> None:
        """Create the run of a trial; `about` and `sources` are what the worker said of it, as in `Started`."""
        told = self._telling[trial] = Told(trial=trial, card=card, about=about, sources=sources)
        self._unrecorded[told] = None
        self._submit(lambda: self._start(told))

    def report(self, trial: int, epoch: int, metrics: Mapping[str, float], time_s: float) -> None:
        """Record a trial's metrics of an epoch."""
        self._telling[trial].reports.append((epoch, metrics, time_s))
        self._submit(lambda: self._report(trial, epoch, metrics, time_s))

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
        told = self._telling.pop(trial)
        told.end = {
            "status": status, "metrics": metrics or {}, "tags": tags or {}, "traceback": traceback,
            "ended_s": time.time() if ended_s is None else ended_s, "last": last,
        }  # fmt: skip

        def end() -> None:
            self._finish(told)
            if last:  # and only if it is written
                self._ended.put(trial)

        self._submit(end)

    def ended(self) -> list[int]:
        """Return the trials that are over and whose last run is written, each once."""
        self._raise()
        return _drained(self._ended)

    def notices(self) -> list[str]:
        """Return what the user should know of the store, each once."""
        began, now = self._busy_since, time.monotonic()
        if began is not None and now - began > _GRACE_S and not self._left:
            self._busy_since = now  # to look again after a while
            self._patience.look()
        return _drained(self._notices)

    def ends(self, trials: Sequence[int]) -> dict[int, RecordedEnd]:
        """Return how those of these trials ended whose runs say that they are over."""
        found: dict[int, RecordedEnd] = {}
        self._submit(lambda: found.update(self._of_study().ends(set(trials))))
        self.flush()
        return found

    def finalists(self) -> list[RecordedEnd]:
        """Return how those of the finalists' runs ended that are complete."""
        found: list[RecordedEnd] = []
        self._submit(lambda: found.extend(self._of_study().finalists()))
        self.flush()
        return found

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """Return a metric's values by epoch."""
        found: dict[int, float] = {}
        self._submit(lambda: found.update(self._of_study().history(run_id, metric)))
        self.flush()
        return found

    def run_id(self, trial: int) -> str:
        """Return the MLflow id of a trial's run, waiting for it if need be."""
        self.flush()
        return self._run_ids[trial]

    def run_ids(self) -> dict[int, str]:
        """Return the MLflow ids of the study's trials, by number, those of earlier sweeps included."""
        found: dict[int, str] = {}
        self._submit(lambda: found.update(self._of_study().run_ids()))
        self.flush()
        return found or dict(self._run_ids)  # where the store is away, what is known of it

    def flush(self) -> None:
        """Wait until everything submitted so far is written. Raises StoreError if something was not."""
        done = threading.Event()
        self._jobs.put(done.set)
        while not self.is_away and not done.wait(0.05) and self._thread.is_alive():
            pass
        self._raise()

    # A store that is away.

    def hurry(self) -> None:
        """Wait no more for a server that is away: who stops does not want to."""
        self._patience.end()

    def wait(self, stop: Wish, notice: Callable[[str], None]) -> Kept:
        """Wait until everything submitted so far is written, and, once there is a wish to stop, for no server.

        What a server that is away has missed by then is kept as files, for `record_kept`; `notice` hears meanwhile what
        the user should know. Raises StoreError if something else was not written.
        """
        done = threading.Event()
        self._jobs.put(done.set)
        seen, since = self._done, time.monotonic()
        while not done.wait(0.05) and self._thread.is_alive():
            for text in self.notices():
                notice(text)
            if stop.asked:
                stop.noticed = True
                self._patience.end()
            if self._done != seen:
                seen, since = self._done, time.monotonic()
            elif stop.asked and time.monotonic() - since > _GRACE_S and (stop.at_once or not self._is_there()):
                break  # it is in the middle of a call that nobody answers
        error = None
        try:
            self._raise()
        except StoreError as raised:
            if raised.trouble != Trouble.UNREACHABLE:
                raise
            error = raised
        return self._keep_what_is_left(error) if self._unrecorded and not self._location.is_local else Kept(error=error)

    def record_kept(self) -> list[int]:
        """Record what an earlier process kept as files; return the trials."""
        kept, recorded = self._outbox.waiting(), list[int]()
        for told in kept:
            self._submit(partial(self._record_kept, told, recorded))
        if kept:
            self.flush()
        return recorded

    @property
    def is_away(self) -> bool:
        """Whether nothing is recorded any more: what was left to do is kept as files."""
        return self._left

    def _is_there(self) -> bool:
        try:
            check_reachable(self._location)
        except StoreError:
            return False
        return True

    def _keep_what_is_left(self, error: StoreError | None) -> Kept:
        self._patience.end()
        self._left = True  # what it still has to do would be done twice
        kept = []
        for told in [told for told in list(self._unrecorded) if told.is_over]:
            self._know_code(told)
            self._outbox.keep(told)
            del self._unrecorded[told]
            if told.end["last"]:
                kept.append(told.trial)
        return Kept(trials=kept, error=error)

    # The thread.

    def _submit(self, job: Callable[[], None]) -> None:
        def unless_left() -> None:
            if not self._left:
                job()

        earlier, self._error = self._error, None  # what this job comes to, the next call tells
        self._jobs.put(unless_left)  # in any case: who is told of an error does not ask again
        if earlier is not None:
            raise earlier

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            began, self._busy_since = time.thread_time(), None if self._location.is_local else time.monotonic()
            try:
                with translated(self._location):
                    job()
            except BaseException as error:  # carried over to the caller's thread
                if not self._failed:
                    self._failed, self._error = True, error
            self._done += 1
            self._busy_since = None
            self.cpu_s += time.thread_time() - began

    def _connect(self) -> None:
        self._client = patient(connect(self._location), self._location, self._patience)
        if self._location.is_local:
            self._held.enter_context(locked(recording_lock(self._location.directory), wait=True, share=True))
        self._experiment_id = experiment_id(self._client, self._location, self._experiment)
        self._writer = writer_of(self._client, self._location, self._experiment_id)
        self.cpu_s = -time.thread_time()  # opening the store is not recording a trial

    def _of_study(self) -> StudyRuns:
        assert self._study is not None
        return self._study

    def _record_kept(self, told: Told, recorded: list[int]) -> None:
        try:
            with translated(self._location):
                if told.run_id is not None and not self._has(told.run_id):  # it is another store by now
                    told.run_id = None
                self._start(told)
                for report in told.reports:
                    self._report(told.trial, *report)
                self._finish(told)
        except StoreError as error:
            if error.trouble == Trouble.UNREACHABLE:
                raise
            self._notices.put(f"the run of trial {told.trial}, kept in {self._outbox.folder}, is not recorded: {error}")
            return
        self._outbox.drop(told)
        recorded.append(told.trial)

    def _has(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return str(self._client.get_run(run_id).info.lifecycle_stage) == "active"
        except MlflowException as error:
            if is_absent(error):
                return False
            raise

    def _start(self, told: Told) -> None:
        trial, card, about = told.trial, told.card, told.about
        self._know_code(told)
        tags = {**told.code, **card.tags, **self._lineage(trial, card), **tags_about(about)}
        sampled = ((key, hidden(key, value)) for key, value in card.params.items())
        run = NewRun(
            name=f"{card.name}-retry-{card.attempt}" if card.attempt else card.name,
            began_ms=int(card.began_s * 1000),
            tags=all_without_secrets(tags),
            params=params_of((*flatten(card.config), *sampled)),
            data=dataset(about) if "digest" in about else None,
            config=config_text(card.config),  # at once: a run that is killed keeps its config
            run_id=told.run_id,
        )

        def made(run_id: str) -> None:
            if not card.attempt:
                self._first_ids[trial] = run_id
            self._open[trial] = _Open(card, run_id)
            self._run_ids[trial] = told.run_id = run_id

        self._writer.create(run, card.directory, made)
        if told.code_files:
            self._keep(CodeState(tags=told.code, files=told.code_files), self._run_ids[trial])

    def _know_code(self, told: Told) -> None:
        if not told.code:  # else an earlier process wrote it down
            code = self._sources.state(told.sources)
            told.code, told.code_files = code.tags, code.files

    def _keep(self, code: CodeState, run_id: str) -> None:
        if self._study is not None:
            self._study.keep(code)
        else:
            code.log(self._client, run_id)

    def _lineage(self, trial: int, card: RunCard) -> dict[str, str]:
        tags = {} if self._study is None else {"mlflow.parentRunId": self._study.run_id}
        if card.attempt:
            tags |= {"besom.attempt": str(card.attempt)}
            if trial in self._first_ids:  # else an earlier process recorded it
                tags |= {"besom.first_run": self._first_ids[trial]}
        return tags

    def _report(self, trial: int, epoch: int, metrics: Mapping[str, float], time_s: float) -> None:
        run = self._open[trial]
        self._tell_of_keys(metrics)
        run.history.append((epoch, metrics))
        run.metrics += metrics_at(metrics, step=epoch, time_s=time_s)
        if time.monotonic() - run.flushed > self._flush_every_s:
            self._flush(run)

    def _tell_of_keys(self, names: Iterable[str]) -> None:
        """Tell once of each metric that MLflow has by another name, and of two that it has by the same."""
        for name in names:
            key = to_key(name)
            known = self._keys.setdefault(key, {})
            if name not in known:
                known[name] = None
                others = ", ".join(f"'{other}'" for other in known if other != name)
                if others:
                    self._notices.put(f"metrics {others} and '{name}' are both recorded as '{key}'; rename one")
                elif name != key:
                    self._notices.put(f"metric '{name}' is recorded as '{key}', for MLflow takes no such name")

    def _flush(self, run: _Open) -> None:
        self._writer.measure(run.run_id, run.metrics)
        run.metrics = []
        run.flushed = time.monotonic()

    def _finish(self, told: Told) -> None:
        run = self._open.pop(told.trial)
        status, tags, ended_s = Status(told.end["status"]), told.end["tags"], told.end["ended_s"]
        directory = run.card.directory
        if "besom.reason" in tags:  # the UI cuts a tag, and shows this whole
            tags = {**tags, "mlflow.note.content": as_markdown(tags["besom.reason"])}
        if told.end["traceback"] is not None:
            (directory / "traceback.txt").write_text(without_secrets(told.end["traceback"]), encoding="utf-8")
        if status is not Status.KILLED and run.card.config.get("figures") != "none":  # who stops does not want to wait
            draw(run.history, directory)
        last = run.history[-1][0] if run.history else 0
        once = metrics_at(told.end["metrics"], step=last, time_s=ended_s)
        self._writer.finish(
            run.run_id,
            status,
            metrics=[*run.metrics, *once],
            tags=tags,
            directory=directory,
            ended_ms=int(ended_s * 1000),
        )
        shutil.rmtree(directory, ignore_errors=True)
        self._unrecorded.pop(told, None)


def _drained(waiting: queue.SimpleQueue[_Item]) -> list[_Item]:
    found = []
    with contextlib.suppress(queue.Empty):
        while True:
            found.append(waiting.get_nowait())
    return found
