"""The asynchronous sweep loop: fill each free slot, receive the workers' events, record results. Never in batches.

While every slot trains, the next trial is asked for and composed ahead, so that a free slot gets its next trial at
once. The `Scheduler` decides which trial starts where; `TrialResults` records its metrics and its end.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from besom.errors import BesomError, ConfigError, Interrupted
from besom.sweep.progress.events import Dispatched, Observer, Polled, StopRequested, Warned
from besom.sweep.space.constraints import Constraint
from besom.sweep.spec import SweepSpec
from besom.sweep.study.book import Book
from besom.sweep.trials.attempt import Attempt, Verdict
from besom.sweep.trials.jobs import Jobs
from besom.sweep.trials.results import TrialResults
from besom.sweep.trials.scheduler import UNWRITTEN, Scheduler
from besom.system.interrupts import Stop, interrupts
from besom.tracking.recorder.recorder import Recorder
from besom.workers.devices import Slot
from besom.workers.messages import (
    Assignment,
    Blame,
    Bundle,
    Failure,
    Finished,
    Logged,
    Reported,
    Sized,
    Started,
    State,
    TrialResult,
)
from besom.workers.pool import Died, Event, Pool


class SweepLoop:
    """Runs the trials of one study until there are enough, the time is up, or the user stops it.

    With `finish_epochs`, a stopped trial may finish its epoch, unless the user asks a second time.
    """

    def __init__(
        self,
        *,
        spec: SweepSpec,
        book: Book,
        jobs: Jobs,
        pool: Pool,
        recorder: Recorder,
        observer: Observer,
        scratch: Path,
        constraints: Sequence[Constraint] = (),
        members: int = 1,
        unwritten: int = UNWRITTEN,
        warnings: Callable[[], Sequence[str]] = list,
        finish_epochs: bool = True,
    ) -> None:
        self._trial_timeout_s = spec.budget.trial_timeout_s
        self._auto = spec.devices.bundle == "auto"
        self._jobs = jobs
        self._pool = pool
        self._recorder = recorder
        self._observer = observer
        self._scratch = scratch
        self._scheduler = Scheduler(
            study_name=spec.study_name, budget=spec.budget, book=book, jobs=jobs, members=members, auto=self._auto,
            unwritten=unwritten,
        )  # fmt: skip
        self._running = self._scheduler.running
        self._results = TrialResults(
            study_name=spec.study_name, search=spec.search, book=book, jobs=jobs, scheduler=self._scheduler, pool=pool,
            recorder=recorder, observer=observer, constraints=constraints,
        )  # fmt: skip
        self._warnings = warnings
        self._finish_epochs = finish_epochs
        self._asked_to_stop = False

    @property
    def was_stopped(self) -> bool:
        """True if the user asked to stop, even if there was nothing left to do."""
        return self._asked_to_stop

    @property
    def gave_up(self) -> BesomError | None:
        """The error that ends the sweep when more trials failed than `max_failure_rate` allows."""
        return self._scheduler.gave_up

    def run(self) -> None:
        """Run the sweep to its end.

        Raises Interrupted on ctrl-C, SIGTERM or SIGHUP, unless nothing was left to do, DataError when no trial can use
        the data and StoreError when a trial met a full disk. Before that, every running trial is recorded as KILLED,
        and waits to be run again.
        """
        with interrupts() as stop:
            try:
                try:
                    self._run_trials(stop)
                finally:
                    self._cut_off()
            except BaseException:
                with suppress(BesomError):  # the first error is the one to raise
                    self._cut_off()  # the trials that an error of the recorder has left running
                    self._results.settle_all(stop)
                raise
            self._results.settle_all(stop)
        self._asked_to_stop = stop.asked
        if stop.asked and (self._results.any_interrupted or self._scheduler.has_more):
            raise Interrupted

    def _run_trials(self, stop: Stop) -> None:
        while self._running or (not stop.asked and self._scheduler.has_more):
            if stop.at_once or (stop.asked and not self._finish_epochs):
                return
            if stop.asked:
                self._let_epochs_finish(stop)
            else:
                self._dispatch()
            for event in self._pool.events(timeout_s=0.1):
                self._handle(event)
            self._replace_overdue()
            self._results.settle()
            for warning in self._warnings():
                self._observer(Warned(text=warning))
            self._observer(Polled())

    def _dispatch(self) -> None:
        for slot in self._pool.idle():
            assignments = [self._start(attempt, slot) for attempt in self._scheduler.take(slot)]
            if bundle := tuple(assignment for assignment in assignments if assignment is not None):
                sharing = sum(slot.shares(other) for other in self._pool.slots)
                self._pool.submit(slot, Bundle(assignments=bundle, auto=self._auto, slots=sharing))
        self._scheduler.ask_ahead()

    def _start(self, attempt: Attempt, slot: Slot) -> Assignment | None:
        # One folder per attempt: the recorder may still read that of an earlier one.
        directory = self._scratch / f"{attempt.trial}-{attempt.number}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        attempt.directory = directory
        self._observer(Dispatched(trial=attempt.trial, slot=slot, attempt=attempt.number))
        try:
            assignment, card = self._jobs.prepare(attempt.asked, slot, directory)
        except ConfigError as error:
            attempt.card = replace(self._jobs.card(attempt.asked, directory, {}), attempt=attempt.number)
            self._results.fail(attempt, Failure(reason=str(error), blame=Blame.USER), TrialResult(state=State.FAIL))
            return None
        attempt.card = replace(card, attempt=attempt.number)
        return assignment

    def _handle(self, event: Event) -> None:
        match event:
            case Sized(trial=trial, members=members, of=of):
                self._scheduler.sized(self._running[trial], members, of)
                self._observer(event)
            case Started() as started:
                self._running[started.trial].began_s = started.began_s
                self._results.start(self._running[started.trial], started)
            case Reported() as reported:
                self._results.report(self._running[reported.trial], reported)
            case Logged(trial=trial, log=log):
                self._recorder.log(trial, log)
            case Finished(trial=trial, result=result):
                self._results.finish(self._running[trial], result)
            case Died(trials=trials, reason=reason, worker=worker):
                failed = TrialResult(
                    state=State.FAIL, failure=Failure(reason=reason), duration_s=0.0, ended_s=time.time(),
                    worker=worker, host=platform.node(),
                )  # fmt: skip
                for trial in trials:
                    self._results.finish(self._running[trial], failed)

    def _replace_overdue(self) -> None:
        limit_s = self._trial_timeout_s
        if limit_s is None:
            return
        for attempt in list(self._running.values()):
            assert attempt.slot is not None
            if not attempt.is_overdue(limit_s, ready=self._pool.is_ready(attempt.slot)):
                continue
            self._pool.replace(attempt.slot)
            ended = TrialResult(state=State.FAIL, duration_s=limit_s)
            if attempt.verdict is Verdict.PRUNED:  # already pruned; it only did not stop
                self._results.prune(attempt, ended)
            else:
                reason = f"it took longer than hydra.sweeper.trial_timeout, {limit_s:g} s"
                self._results.fail(attempt, Failure(reason=reason, blame=Blame.USER), ended)

    def _let_epochs_finish(self, stop: Stop) -> None:
        if stop.noticed:
            return
        stop.noticed = True
        self._recorder.hurry()
        self._observer(StopRequested())
        for attempt in self._running.values():
            if attempt.verdict is None:
                attempt.verdict = Verdict.INTERRUPTED
                assert attempt.slot is not None
                self._pool.stop(attempt.slot, attempt.trial, at_once=False)

    def _cut_off(self) -> None:
        """End at once every trial that still trains; all but pruned ones wait to be run again."""
        if self._running:
            self._pool.close()  # a worker would write files while they are recorded, and use processor time
        for attempt in list(self._running.values()):
            if attempt.verdict is Verdict.PRUNED:  # decided already
                self._results.prune(attempt, TrialResult(state=State.PRUNED))
            else:
                self._results.interrupt(attempt)
