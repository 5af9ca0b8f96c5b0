"""The asynchronous loop: fill what slot is free, listen, tell. Never in batches.

While every slot trains, the next trial is asked and composed ahead, so that a slot that falls free gets its next
trial at once. What may start where and when is the agenda's decision; here is what becomes of what runs.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from besom.errors import BesomError, ConfigError, DataError, Interrupted
from besom.sweep.attempt import Attempt, Verdict
from besom.sweep.jobs import Jobs
from besom.sweep.progress.observer import Observer, told_kept
from besom.sweep.scheduler import UNWRITTEN, Scheduler
from besom.sweep.space.constraints import Constraint
from besom.sweep.spec import SweepSpec
from besom.sweep.study.code import StudyCode
from besom.sweep.study.study import Ending, StudyBook
from besom.sweep.trial import best_metrics, disk_is_full, not_finite, tags_of
from besom.system.interrupts import Stop, interrupts
from besom.system.source_file import SourceFile
from besom.tracking.recorder.recorder import Recorder
from besom.tracking.study_run import Status
from besom.training.progress import Outcome
from besom.workers.devices import Slot
from besom.workers.messages import (
    Assignment,
    Blame,
    Bundle,
    Failure,
    Finished,
    Reported,
    Sized,
    Started,
    State,
)
from besom.workers.pool import Died, Event, Pool


class SweepLoop:
    """Runs the trials of one study until there are enough, the time is up, or the user stops it."""

    def __init__(
        self,
        *,
        spec: SweepSpec,
        book: StudyBook,
        jobs: Jobs,
        pool: Pool,
        recorder: Recorder,
        observer: Observer,
        scratch: Path,
        constraints: Sequence[Constraint] = (),
        members: int = 1,
        unwritten: int = UNWRITTEN,
        changed: Callable[[], Sequence[Path]] = list,
    ) -> None:
        self._spec = spec
        self._book = book
        self._jobs = jobs
        self._pool = pool
        self._recorder = recorder
        self._observer = observer
        self._scratch = scratch
        self._constraints = constraints
        self._scheduler = Scheduler(spec=spec, book=book, jobs=jobs, members=members, unwritten=unwritten)
        self._running = self._scheduler.running
        self._code = StudyCode(book, observer.warned)
        self._changed = changed
        self._put_back = False
        self._asked_to_stop = False

    @property
    def was_stopped(self) -> bool:
        """Whether the user asked to stop, even where nothing was left to do."""
        return self._asked_to_stop

    @property
    def gave_up(self) -> BesomError | None:
        """What is wrong, when more trials failed than may."""
        return self._scheduler.gave_up

    def run(self) -> None:
        """Run the sweep to its end.

        Raises Interrupted on ctrl-C, SIGTERM or SIGHUP, unless nothing was left to do, DataError when no trial can use
        the data and StoreError when a trial met a full disk, all after everything that ran was recorded as KILLED; it
        waits to be run again.
        """
        with interrupts() as stop:
            try:
                try:
                    self._go_on(stop)
                finally:
                    self._cut_off()
            except BaseException:
                with suppress(BesomError):  # one thing that is wrong is enough to tell
                    self._cut_off()  # what an error of the recorder's has left
                    self._settle_all(stop)
                raise
            self._settle_all(stop)
        self._asked_to_stop = stop.asked
        if stop.asked and (self._put_back or self._scheduler.goes_on):
            raise Interrupted

    def _go_on(self, stop: Stop) -> None:
        while self._running or (not stop.asked and self._scheduler.goes_on):
            if stop.at_once:
                return
            if stop.asked:
                self._let_epochs_finish(stop)
            else:
                self._dispatch()
            for event in self._pool.events(timeout_s=0.1):
                self._handle(event)
            self._replace_what_hangs()
            self._settle()
            for file in self._changed():
                self._observer.warned(
                    f"{file} was changed on disk: this sweep goes on with what it held when it began, and the next "
                    "start takes it as it is then"
                )
            self._observer.refresh()

    def _dispatch(self) -> None:
        for slot in self._pool.idle():
            assignments = [self._start(attempt, slot) for attempt in self._scheduler.take(slot)]
            if bundle := tuple(assignment for assignment in assignments if assignment is not None):
                sharing = sum(slot.shares(other) for other in self._pool.slots)
                self._pool.submit(slot, Bundle(assignments=bundle, auto=self._spec.bundle == "auto", slots=sharing))
        self._scheduler.ask_ahead()

    def _start(self, attempt: Attempt, slot: Slot) -> Assignment | None:
        # What an earlier attempt left is still being recorded.
        directory = self._scratch / f"{attempt.trial}-{attempt.number}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        attempt.directory = directory
        self._observer.started(attempt.trial, slot, attempt.number)
        try:
            assignment, card = self._jobs.prepare(attempt.asked, slot, directory)
        except ConfigError as error:
            attempt.card = replace(self._jobs.card(attempt.asked, directory, {}), attempt=attempt.number)
            self._failed_attempt(attempt, Failure(reason=str(error), blame=Blame.USER), None)
            return None
        attempt.card = replace(card, attempt=attempt.number)
        return assignment

    # What the workers say.

    def _handle(self, event: Event) -> None:
        match event:
            case Sized(trial=trial, members=members, of=of):
                self._scheduler.sized(self._running[trial], members, of)
                self._observer.sized(trial, members, of)
            case Started(trial=trial, about=about, began_s=began_s, sources=sources):
                self._running[trial].began_s = began_s
                self._record(self._running[trial], about, sources)
            case Reported() as reported:
                self._report(self._running[reported.trial], reported)
            case Finished() as finished:
                self._finished(self._running[finished.trial], finished)
            case Died(trials=trials, reason=reason, worker=worker):
                for trial in trials:
                    failed = Finished(
                        trial=trial, state=State.FAIL, duration_s=0.0, failure=Failure(reason=reason),
                        worker=worker, host=platform.node(),
                    )  # fmt: skip
                    self._finished(self._running[trial], failed)

    def _record(self, attempt: Attempt, about: Mapping[str, Any], sources: Sequence[SourceFile] | None = None) -> None:
        assert attempt.card is not None
        attempt.recorded = True
        code = self._code.tags(attempt.trial, sources or ())
        attempt.card = replace(attempt.card, tags={**attempt.card.tags, **code})
        about = dict(about)
        if attempt.began_s is not None:
            attempt.card = replace(attempt.card, began_s=attempt.began_s)
        if "config" in about:  # another app's job is composed by its worker
            attempt.card = replace(attempt.card, config=about.pop("config"))
        self._recorder.start(attempt.trial, attempt.card, about, sources)

    def _record_unless_started(self, attempt: Attempt) -> None:
        if not attempt.recorded:
            self._record(attempt, {})

    def _report(self, attempt: Attempt, reported: Reported) -> None:
        if attempt.verdict is Verdict.PRUNED:
            return  # the worker was not yet told: what it did since does not count
        trial, epoch, metrics = reported.trial, reported.epoch, reported.metrics
        value = metrics.get(self._spec.objective.name)
        attempt.epoch = epoch
        attempt.history[epoch] = metrics if self._constraints else {}
        self._recorder.report(trial, epoch, metrics, reported.time_s)
        self._observer.reported(trial, epoch, value)
        if not self._spec.pruner or value is None or not math.isfinite(value) or epoch < self._jobs.first_step:
            return
        prune = self._book.report(attempt.asked.trial, epoch, value)
        if prune and attempt.verdict is None and epoch != attempt.last_epoch:
            attempt.verdict = Verdict.PRUNED
            assert attempt.slot is not None
            self._pool.stop(attempt.slot, trial, at_once=True)

    def _finished(self, attempt: Attempt, finished: Finished) -> None:
        state, duration_s = finished.state, finished.duration_s
        attempt.worker, attempt.host = finished.worker, finished.host
        attempt.ended_s = finished.ended_s
        if attempt.verdict is Verdict.PRUNED or (state is State.PRUNED and attempt.verdict is None):
            self._pruned(attempt, duration_s)
        elif attempt.verdict is Verdict.INTERRUPTED and state is not State.COMPLETE:
            self._interrupted(attempt)
        elif finished.outcome is not None:
            self._complete(attempt, finished.outcome, duration_s)
        else:
            self._failed_attempt(attempt, finished.failure or Failure(reason="unknown"), duration_s)

    # How trials end.

    def _complete(self, attempt: Attempt, outcome: Outcome, duration_s: float) -> None:
        values = dict(zip((one.name for one in self._spec.objectives), outcome.values, strict=True))
        wrong = not_finite(self._spec.objectives, outcome)
        metrics = {**attempt.history.get(outcome.best_epoch or attempt.epoch, {}), **outcome.summary, **values}
        try:
            constraints = {one.key: one.value(metrics) for one in self._constraints}
        except ConfigError as error:
            wrong = wrong or str(error)
        if wrong is not None:
            self._failed_attempt(attempt, Failure(reason=wrong, blame=Blame.USER), duration_s)
            return
        about = attempt.about(duration_s, best_epoch=outcome.best_epoch)
        ending = Ending(state=State.COMPLETE, values=outcome.values, about=about, constraints=constraints)
        tags = tags_of(State.COMPLETE, outcome)
        if constraints:
            tags |= {"besom.feasible": str(ending.feasible).lower(), "besom.constraints": json.dumps(constraints)}
        self._jobs.complete(attempt.trial, outcome)
        self._end(attempt, ending, Status.FINISHED, metrics=best_metrics(self._spec.objectives, outcome), tags=tags)

    def _pruned(self, attempt: Attempt, duration_s: float | None) -> None:
        ending = Ending(state=State.PRUNED, about=attempt.about(duration_s))
        self._end(attempt, ending, Status.KILLED, tags={"besom.state": State.PRUNED})

    def _failed_attempt(self, attempt: Attempt, failure: Failure, duration_s: float | None) -> None:
        failure = failure.without_secrets()  # the worker masks what it knows, and here more is known
        if failure.blame is Blame.DATA and attempt.has_everybodys_data:
            raise DataError(f"study {self._spec.study_name}: {failure.reason}")
        if failure.blame is Blame.DISK:
            raise disk_is_full(f"study {self._spec.study_name}: trial {attempt.trial}", failure)
        again = self._scheduler.another(attempt, failure)
        if again is None:
            ending = Ending(state=State.FAIL, about=attempt.about(duration_s, reason=failure.reason))
            self._end(attempt, ending, Status.FAILED, failure=failure, tags={"besom.state": State.FAIL})
            return
        if again.alone and not attempt.alone and attempt.slot is not None:
            self._pool.replace(attempt.slot)  # whatever still lay on the device is gone with its process
        self._record_unless_started(attempt)
        self._scheduler.retry(attempt, again)
        self._recorder.finish(
            attempt.trial, Status.FAILED, last=False, traceback=failure.traceback or failure.reason,
            ended_s=attempt.ended_s, tags={"besom.state": "RETRIED", "besom.reason": failure.reason},
        )  # fmt: skip
        self._book.forget(attempt.asked.trial)
        self._observer.retrying(attempt.trial, failure.reason)

    def _end(
        self, attempt: Attempt, ending: Ending, status: Status, *,
        tags: dict[str, str], metrics: Mapping[str, float] | None = None, failure: Failure | None = None,
    ) -> None:  # fmt: skip
        """Tell the study, the recorder and the board that a trial is over."""
        trial = attempt.trial
        self._record_unless_started(attempt)
        self._scheduler.over(attempt, ending.state)
        self._book.tell(attempt.asked.trial, replace(ending, began_s=attempt.began_s, ended_s=attempt.ended_s))
        reason = failure.reason if failure else None
        if ending.state is not State.COMPLETE:
            self._jobs.incomplete(trial, ending.state, reason)
        if reason is not None:
            tags = {**tags, "besom.reason": reason}
        traceback = (failure.traceback or failure.reason) if failure else None
        self._recorder.finish(trial, status, metrics=metrics, tags=tags, traceback=traceback, ended_s=attempt.ended_s)
        self._observer.finished(trial, ending.state, ending.values, reason, ending.feasible)

    def _replace_what_hangs(self) -> None:
        limit_s = self._spec.trial_timeout_s
        if limit_s is None:
            return
        for attempt in list(self._running.values()):
            assert attempt.slot is not None
            if not attempt.is_overdue(limit_s, ready=self._pool.is_ready(attempt.slot)):
                continue
            self._pool.replace(attempt.slot)
            if attempt.verdict is Verdict.PRUNED:  # it was over, and only did not stop
                self._pruned(attempt, limit_s)
            else:
                reason = f"it took longer than hydra.sweeper.trial_timeout, {limit_s:g} s"
                self._failed_attempt(attempt, Failure(reason=reason, blame=Blame.USER), limit_s)

    def _settle(self) -> None:
        """Write to the study's storage what the recorder has written: a trial is over in both, or in neither."""
        for trial in self._recorder.ended():
            self._book.settle(trial)
            self._scheduler.written(trial)
        for notice in self._recorder.notices():
            self._observer.warned(notice)

    def _settle_all(self, stop: Stop) -> None:
        """Settle everything; of a server that is away, what it has missed is settled too, for it is kept."""
        kept = self._recorder.wait(stop, self._observer.warned)
        self._settle()
        for trial in kept.trials:
            self._book.settle(trial)
            self._scheduler.written(trial)
        if kept.trials:
            self._put_back = True
            self._observer.warned(told_kept(len(kept.trials)))
        if kept.error is not None and not stop.asked:
            raise kept.error

    # Stopping.

    def _let_epochs_finish(self, stop: Stop) -> None:
        if stop.noticed:
            return
        stop.noticed = True
        self._recorder.hurry()
        self._observer.stopping()
        for attempt in self._running.values():
            if attempt.verdict is None:
                attempt.verdict = Verdict.INTERRUPTED
                assert attempt.slot is not None
                self._pool.stop(attempt.slot, attempt.trial, at_once=False)

    def _interrupted(self, attempt: Attempt) -> None:
        """Record a trial that was stopped; it waits to be run again."""
        self._scheduler.stopped(attempt)
        self._put_back = True
        if attempt.recorded:
            self._recorder.finish(attempt.trial, Status.KILLED, last=False, tags={"besom.state": "INTERRUPTED"})
        elif attempt.directory is not None:
            shutil.rmtree(attempt.directory, ignore_errors=True)
        self._observer.interrupted([attempt.trial])

    def _cut_off(self) -> None:
        """End at once what still trains; it waits to be run again."""
        if self._running:
            self._pool.close()  # it would write beside the recorder, and take its processor time
        for attempt in list(self._running.values()):
            if attempt.verdict is Verdict.PRUNED:  # that was decided, and stays so
                self._pruned(attempt, None)
            else:
                self._interrupted(attempt)
