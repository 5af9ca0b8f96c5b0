"""The results of running trials, written to the study, the recorder and the observer."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from besom.errors import ConfigError, DataError
from besom.sweep.progress.events import Ended, Observer, Requeued, Retried, Warned
from besom.sweep.progress.text import kept_runs_warning
from besom.sweep.space.constraints import Constraint
from besom.sweep.spec import SweepSpec
from besom.sweep.study.code import StudyCode
from besom.sweep.study.study import Ending, StudyBook
from besom.sweep.trials.attempt import Attempt, Verdict
from besom.sweep.trials.jobs import Jobs
from besom.sweep.trials.scheduler import Scheduler
from besom.sweep.trials.trial import best_metrics, disk_is_full, not_finite, tags_of
from besom.system.interrupts import Stop
from besom.system.source_file import SourceFile
from besom.tracking.recorder.recorder import Recorder
from besom.tracking.study_run import Status
from besom.tracking.tags import INTERRUPTED, RETRIED, Tag
from besom.training.progress import Outcome
from besom.workers.messages import Blame, Failure, Finished, Reported, State
from besom.workers.pool import Pool


class TrialResults:
    """Records each attempt's start, metrics and end, and decides how a trial ends: complete, pruned, failed or retried.

    `any_interrupted` is true once a trial was left to be run again by the same command.
    """

    def __init__(
        self,
        *,
        spec: SweepSpec,
        book: StudyBook,
        jobs: Jobs,
        scheduler: Scheduler,
        pool: Pool,
        recorder: Recorder,
        observer: Observer,
        constraints: Sequence[Constraint],
    ) -> None:
        self._spec = spec
        self._book = book
        self._jobs = jobs
        self._scheduler = scheduler
        self._pool = pool
        self._recorder = recorder
        self._observer = observer
        self._constraints = constraints
        self._code = StudyCode(book, self._warn)
        self.any_interrupted = False

    # While an attempt runs.

    def start(self, attempt: Attempt, about: Mapping[str, Any], sources: Sequence[SourceFile] | None = None) -> None:
        """Create the run of an attempt; `about` describes its model and data, `sources` are its imported files."""
        assert attempt.card is not None
        attempt.recorded = True
        code = self._code.tags(attempt.trial, sources or ())
        attempt.card = replace(attempt.card, tags={**attempt.card.tags, **code})
        about = dict(about)
        if attempt.began_s is not None:
            attempt.card = replace(attempt.card, began_s=attempt.began_s)
        if "config" in about:  # the worker composes the job of another app
            attempt.card = replace(attempt.card, config=about.pop("config"))
        self._recorder.start(attempt.trial, attempt.card, about, sources)

    def _start_unless_recorded(self, attempt: Attempt) -> None:
        if not attempt.recorded:
            self.start(attempt, {})

    def report(self, attempt: Attempt, reported: Reported) -> None:
        """Record the metrics of an epoch; stop the attempt if the pruner decides to."""
        if attempt.verdict is Verdict.PRUNED:
            return  # the stop request has not reached the worker yet: later epochs do not count
        trial, epoch, metrics = reported.trial, reported.epoch, reported.metrics
        attempt.epoch = epoch
        attempt.history[epoch] = metrics if self._constraints else {}
        self._recorder.report(trial, epoch, metrics, reported.time_s)
        self._observer(reported)
        value = metrics.get(self._spec.objective.name)
        if not self._spec.pruner or value is None or not math.isfinite(value) or epoch < self._jobs.first_step:
            return
        prune = self._book.report(attempt.asked.trial, epoch, value)
        if prune and attempt.verdict is None and epoch != attempt.last_epoch:
            attempt.verdict = Verdict.PRUNED
            assert attempt.slot is not None
            self._pool.stop(attempt.slot, trial, at_once=True)

    # How an attempt ends.

    def finish(self, attempt: Attempt, finished: Finished) -> None:
        """Record the end of an attempt that its worker reported, as the parent's verdict has it."""
        state, duration_s = finished.state, finished.duration_s
        attempt.worker, attempt.host = finished.worker, finished.host
        attempt.ended_s = finished.ended_s
        if attempt.verdict is Verdict.PRUNED or (state is State.PRUNED and attempt.verdict is None):
            self.prune(attempt, duration_s)
        elif attempt.verdict is Verdict.INTERRUPTED and state is not State.COMPLETE:
            self.interrupt(attempt)
        elif finished.outcome is not None:
            self._complete(attempt, finished.outcome, duration_s)
        else:
            self.fail(attempt, finished.failure or Failure(reason="unknown"), duration_s)

    def _complete(self, attempt: Attempt, outcome: Outcome, duration_s: float) -> None:
        values = dict(zip((objective.name for objective in self._spec.objectives), outcome.values, strict=True))
        wrong = not_finite(self._spec.objectives, outcome)
        metrics = {**attempt.history.get(outcome.best_epoch or attempt.epoch, {}), **outcome.summary, **values}
        try:
            constraints = {constraint.key: constraint.value(metrics) for constraint in self._constraints}
        except ConfigError as error:
            wrong = wrong or str(error)
        if wrong is not None:
            self.fail(attempt, Failure(reason=wrong, blame=Blame.USER), duration_s)
            return
        about = attempt.about(duration_s, best_epoch=outcome.best_epoch)
        ending = Ending(state=State.COMPLETE, values=outcome.values, about=about, constraints=constraints)
        tags = tags_of(State.COMPLETE, outcome)
        if constraints:
            tags |= {Tag.FEASIBLE: str(ending.feasible).lower(), Tag.CONSTRAINTS: json.dumps(constraints)}
        self._jobs.complete(attempt.trial, outcome)
        self._end(attempt, ending, Status.FINISHED, metrics=best_metrics(self._spec.objectives, outcome), tags=tags)

    def prune(self, attempt: Attempt, duration_s: float | None) -> None:
        """End a trial as pruned."""
        ending = Ending(state=State.PRUNED, about=attempt.about(duration_s))
        self._end(attempt, ending, Status.KILLED, tags={Tag.STATE: State.PRUNED})

    def fail(self, attempt: Attempt, failure: Failure, duration_s: float | None) -> None:
        """Schedule another attempt at a trial, or end it as failed.

        Raises DataError when no other trial could use the data either, StoreError when the disk is full.
        """
        failure = failure.without_secrets()  # the worker masks the secrets that it knows; the parent knows more
        if failure.blame is Blame.DATA and attempt.has_everybodys_data:
            raise DataError(f"study {self._spec.study_name}: {failure.reason}")
        if failure.blame is Blame.DISK:
            raise disk_is_full(f"study {self._spec.study_name}: trial {attempt.trial}", failure)
        again = self._scheduler.another(attempt, failure)
        if again is None:
            ending = Ending(state=State.FAIL, about=attempt.about(duration_s, reason=failure.reason))
            self._end(attempt, ending, Status.FAILED, failure=failure, tags={Tag.STATE: State.FAIL})
        else:
            self._retry(attempt, again, failure)

    def _retry(self, attempt: Attempt, again: Attempt, failure: Failure) -> None:
        if again.exclusive and not attempt.exclusive and attempt.slot is not None:
            self._pool.replace(attempt.slot)  # ending the process frees the memory that it held on the device
        self._start_unless_recorded(attempt)
        self._scheduler.retry(attempt, again)
        self._recorder.finish(
            attempt.trial, Status.FAILED, last=False, traceback=failure.traceback or failure.reason,
            ended_s=attempt.ended_s, tags={Tag.STATE: RETRIED, Tag.REASON: failure.reason},
        )  # fmt: skip
        self._book.forget(attempt.asked.trial)
        self._observer(Retried(trial=attempt.trial, reason=failure.reason))

    def interrupt(self, attempt: Attempt) -> None:
        """Record an attempt as killed; its trial waits to be run again."""
        self._scheduler.stopped(attempt)
        self.any_interrupted = True
        if attempt.recorded:
            self._recorder.finish(attempt.trial, Status.KILLED, last=False, tags={Tag.STATE: INTERRUPTED})
        elif attempt.directory is not None:
            shutil.rmtree(attempt.directory, ignore_errors=True)
        self._observer(Requeued(trial=attempt.trial))

    def _end(
        self, attempt: Attempt, ending: Ending, status: Status, *,
        tags: dict[str, str], metrics: Mapping[str, float] | None = None, failure: Failure | None = None,
    ) -> None:  # fmt: skip
        """Pass the end of a trial to the study, the recorder and the observer."""
        trial = attempt.trial
        self._start_unless_recorded(attempt)
        self._scheduler.over(attempt, ending.state)
        self._book.tell(attempt.asked.trial, replace(ending, began_s=attempt.began_s, ended_s=attempt.ended_s))
        reason = failure.reason if failure else None
        if ending.state is not State.COMPLETE:
            self._jobs.incomplete(trial, ending.state, reason)
        if reason is not None:
            tags = {**tags, Tag.REASON: reason}
        traceback = (failure.traceback or failure.reason) if failure else None
        self._recorder.finish(trial, status, metrics=metrics, tags=tags, traceback=traceback, ended_s=attempt.ended_s)
        ended = Ended(
            trial=trial, state=ending.state, values=ending.values, reason=reason, feasible=ending.feasible,
            epoch=attempt.epoch,
        )  # fmt: skip
        self._observer(ended)

    # Trials that the recorder has written.

    def settle(self) -> None:
        """Write to the study's storage which trials the recorder has written: a trial is over in both or in neither."""
        for trial in self._recorder.ended():
            self._settle_trial(trial)
        for notice in self._recorder.notices():
            self._warn(notice)

    def settle_all(self, stop: Stop) -> None:
        """Wait for the recorder and settle every trial; runs kept for an unreachable tracking server count as written.

        Raises the recorder's error, unless the user asked to stop.
        """
        kept = self._recorder.wait(stop, self._warn)
        self.settle()
        for trial in kept.trials:
            self._settle_trial(trial)
        if kept.trials:
            self.any_interrupted = True
            self._warn(kept_runs_warning(len(kept.trials)))
        if kept.error is not None and not stop.asked:
            raise kept.error

    def _settle_trial(self, trial: int) -> None:
        self._book.settle(trial)
        self._scheduler.written(trial)

    def _warn(self, text: str) -> None:
        self._observer(Warned(text=text))
