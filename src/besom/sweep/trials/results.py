"""The results of running trials, written to the study, the recorder and the observer."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace

from besom.errors import ConfigError, DataError
from besom.sweep.progress.events import Ended, Observer, Requeued, Retried, Warned
from besom.sweep.progress.text import kept_runs_warning
from besom.sweep.space.constraints import Constraint
from besom.sweep.spec_parts import SearchSpec
from besom.sweep.study.book import Book
from besom.sweep.study.code import StudyCode
from besom.sweep.trials.attempt import Attempt, Verdict
from besom.sweep.trials.jobs import Jobs
from besom.sweep.trials.scheduler import Scheduler
from besom.sweep.trials.trial import disk_is_full, not_a_value, record_end, record_report, record_start
from besom.system.interrupts import Stop
from besom.tracking.recorder.recorder import Recorder
from besom.tracking.study_run import Status
from besom.tracking.tags import INTERRUPTED, RETRIED, Tag
from besom.workers.messages import Blame, Failure, Reported, Started, State, TrialResult
from besom.workers.pool import Pool


class TrialResults:
    """Records each attempt's start, metrics and end, and decides how a trial ends: complete, pruned, failed or retried.

    `any_interrupted` is true once a trial was left to be run again by the same command.
    """

    def __init__(
        self,
        *,
        study_name: str,
        search: SearchSpec,
        book: Book,
        jobs: Jobs,
        scheduler: Scheduler,
        pool: Pool,
        recorder: Recorder,
        observer: Observer,
        constraints: Sequence[Constraint],
    ) -> None:
        self._study_name = study_name
        self._search = search
        self._book = book
        self._jobs = jobs
        self._scheduler = scheduler
        self._pool = pool
        self._recorder = recorder
        self._observer = observer
        self._constraints = constraints
        self._code = StudyCode(book, self._warn)
        self.any_interrupted = False
        self._may_warn = bool(search.pruner)  # of trials that report nothing to the pruner
        if self._may_warn and not pool.reports:
            self._may_warn = False
            self._warn("hydra.sweeper.pruner: nothing is pruned, for the launcher reports nothing while its jobs run")

    # While an attempt runs.

    def start(self, attempt: Attempt, started: Started) -> None:
        """Create the run of an attempt."""
        assert attempt.card is not None
        attempt.recorded = True
        attempt.folder = started.about.get("output")
        code = self._code.tags(attempt.asked.name, started.sources or ())
        card = replace(attempt.card, tags={**attempt.card.tags, **code})
        attempt.card = record_start(self._recorder, attempt.trial, card, started)

    def _start_unless_recorded(self, attempt: Attempt) -> None:
        if not attempt.recorded:
            assert attempt.card is not None
            self.start(attempt, Started(trial=attempt.trial, about={}, began_s=attempt.card.began_s))

    def report(self, attempt: Attempt, reported: Reported) -> None:
        """Record the metrics of a report; stop the attempt if the pruner decides to."""
        if attempt.verdict is Verdict.PRUNED:
            return  # the stop request has not reached the worker yet: later reports do not count
        trial, moment, metrics = reported.trial, reported.moment, reported.metrics
        attempt.reached = reported.at(attempt.axis)
        if self._constraints:
            attempt.history.setdefault(moment.step, {}).update(metrics)
        record_report(self._recorder, attempt.axis, reported)
        self._observer(reported)
        if not self._search.pruner:
            return
        attempt.followed = attempt.followed or self._search.objective.name in metrics
        attempt.count = attempt.count or self._jobs.pruner_count(self._search.fidelity)
        counted = attempt.count.count(moment, metrics.get(self._search.objective.name))
        prune = counted is not None and self._book.report(trial, *counted)
        if prune and attempt.verdict is None and not attempt.is_last(moment):
            attempt.verdict = Verdict.PRUNED
            assert attempt.slot is not None
            self._pool.stop(attempt.slot, trial, at_once=True)

    # How an attempt ends.

    def finish(self, attempt: Attempt, result: TrialResult) -> None:
        """Record the end of an attempt that its worker reported, as the parent's verdict has it."""
        if result.ignored_stop and result.state is State.COMPLETE:
            self._warn(
                f"{attempt.asked.name} was told to stop and ran to its end, so that its value is kept; do not catch "
                "besom.TrialPruned"
            )
            self._complete(attempt, result)
        elif attempt.verdict is Verdict.PRUNED or (result.state is State.PRUNED and attempt.verdict is None):
            self.prune(attempt, result)
        elif attempt.verdict is Verdict.INTERRUPTED and result.state is not State.COMPLETE:
            self.interrupt(attempt)
        elif result.state is State.COMPLETE:
            self._complete(attempt, result)
        else:
            self.fail(attempt, result.failure or Failure(reason="unknown"), result)

    def _complete(self, attempt: Attempt, result: TrialResult) -> None:
        values = dict(zip((objective.name for objective in self._search.objectives), result.values, strict=True))
        wrong = not_a_value(self._search.objectives, result, infinite=self._jobs.may_be_infinite)
        metrics = {**attempt.measured_at(result.best_step), **result.summary, **values}
        try:
            constraints = {constraint.key: constraint.value(metrics) for constraint in self._constraints}
        except ConfigError as error:
            wrong = wrong or str(error)
        if wrong is not None:
            self.fail(attempt, Failure(reason=wrong, blame=Blame.USER), result)
        else:
            self._end(attempt, replace(result, constraints=constraints))

    def prune(self, attempt: Attempt, result: TrialResult) -> None:
        """End a trial as pruned; `result` is what its worker reported."""
        self._end(attempt, result.pruned())

    def fail(self, attempt: Attempt, failure: Failure, result: TrialResult) -> None:
        """Schedule another attempt at a trial, or end it as failed; `result` is what its worker reported.

        Raises DataError when no other trial could use the data either, StoreError when the disk is full.
        """
        failure = failure.without_secrets()  # the worker masks the secrets that it knows; the parent knows more
        if failure.blame is Blame.DATA and attempt.asked.has_everybodys_data:
            raise DataError(f"study {self._study_name}: {failure.reason}")
        if failure.blame is Blame.DISK:
            raise disk_is_full(f"study {self._study_name}: {attempt.asked.name}", failure)
        again = self._scheduler.another(attempt, failure)
        if again is None:
            self._end(attempt, result.failed(failure))
        else:
            self._retry(attempt, again, failure, result.ended_s)

    def _retry(self, attempt: Attempt, again: Attempt, failure: Failure, ended_s: float | None) -> None:
        if again.exclusive and not attempt.exclusive and attempt.slot is not None:
            self._pool.replace(attempt.slot)  # ending the process frees the memory that it held on the device
        self._start_unless_recorded(attempt)
        self._scheduler.retry(attempt, again)
        self._recorder.finish(
            attempt.trial, Status.FAILED, last=False, traceback=failure.traceback or failure.reason,
            ended_s=ended_s, tags={Tag.STATE: RETRIED, Tag.REASON: failure.reason},
        )  # fmt: skip
        self._book.forget(attempt.trial)
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

    def _end(self, attempt: Attempt, result: TrialResult) -> None:
        """Pass the end of a trial to the study, the recorder and the observer."""
        self._start_unless_recorded(attempt)
        self._scheduler.over(attempt, result.state)
        result = replace(result, began_s=attempt.began_s)
        self._book.tell(attempt.trial, result, attempt.about(result))
        self._jobs.ended(attempt.trial, result)
        record_end(self._recorder, attempt.trial, result, self._search.objectives)
        self._observer(
            Ended(
                trial=attempt.trial,
                result=result,
                reached=attempt.reached,
                axis=attempt.axis,
                log=None if attempt.slot is None else self._pool.log(attempt.slot),
                folder=attempt.folder,
            )
        )
        if self._may_warn and result.state is State.COMPLETE:
            self._may_warn = False
            if not attempt.followed:
                self._warn(
                    f"hydra.sweeper.pruner: {attempt.asked.name} did not report {self._search.objective.name} while it "
                    "ran, and could not be pruned; call besom.report(VALUE, step=STEP), or use besom.PruningCallback"
                )

    # Trials that the recorder has written.

    def settle(self) -> None:
        """Write to the study's storage which trials the recorder has written: a trial is over in both or in neither."""
        for trial in self._recorder.ended():
            self._book.settle(trial)
            self._scheduler.written(trial)
        for notice in self._recorder.notices():
            self._warn(notice)

    def settle_all(self, stop: Stop) -> None:
        """Wait for the recorder and settle every trial, also those whose runs are kept for an unreachable server.

        Raises the recorder's error, unless the user asked to stop.
        """
        kept = self._recorder.wait(stop, self._warn)
        self.settle()
        for trial in kept.trials:
            self._book.settle(trial, kept=True)
        if kept.trials:
            self.any_interrupted = True
            self._warn(kept_runs_warning(len(kept.trials)))
        if kept.error is not None and not stop.asked:
            raise kept.error

    def _warn(self, text: str) -> None:
        self._observer(Warned(text=text))
