"""The asynchronous loop: ask when a slot is free, dispatch, listen, tell. Never in batches.

While every slot trains, the next trial is asked and composed ahead, so that a slot that falls free gets its next
trial at once.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from besom.conversation import Outcome
from besom.errors import BesomError, ConfigError, DataError, Interrupted
from besom.reports.summary import failures_of
from besom.sweep.attempt import Attempt, Verdict
from besom.sweep.boards import Board
from besom.sweep.constraints import Constraint
from besom.sweep.jobs import Jobs
from besom.sweep.spec import SweepSpec
from besom.sweep.study import Ending, StudyBook, finished_trials
from besom.tracking.recorder import Recorder, Status
from besom.trial import Stop, best_metrics, family, interrupts, tags_of
from besom.workers.devices import Slot
from besom.workers.messages import Blame, Bundle, Failure, Finished, Reported, Started, State
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
        board: Board,
        scratch: Path,
        constraints: Sequence[Constraint] = (),
    ) -> None:
        self._spec = spec
        self._book = book
        self._jobs = jobs
        self._pool = pool
        self._recorder = recorder
        self._board = board
        self._scratch = scratch
        self._constraints = constraints
        self._running: dict[int, Attempt] = {}
        self._again: deque[Attempt] = deque()  # failed, and to be tried once more
        self._next: Attempt | None = None
        self._failed = 0
        self._deadline = time.monotonic() + spec.timeout_s if spec.timeout_s is not None else None

    def run(self) -> None:
        """Run the sweep to its end.

        Raises Interrupted on ctrl-C or SIGTERM, and DataError when no trial can use the data, both after everything
        that ran was recorded as KILLED; it waits to be run again.
        """
        with interrupts() as stop:
            try:
                while self._running or (self._may_start(stop) and self._in_hand_or_more()):
                    if stop.at_once:
                        break
                    if stop.asked:
                        self._let_epochs_finish(stop)
                    else:
                        self._dispatch()
                    for event in self._pool.events(timeout_s=0.1):
                        self._handle(event)
                    self._replace_what_hangs()
                    self._settle()
                    self._board.refresh()
            finally:
                self._cut_off()
            self._recorder.flush()
            self._settle()
        if stop.asked:
            raise Interrupted

    @property
    def gave_up(self) -> BesomError | None:
        """What is wrong, when more trials failed than may fail."""
        total = self._book.total
        if self._failed <= self._spec.max_failure_rate * (total or max(self._book.done, 10)):
            return None
        group = failures_of(finished_trials(self._book.study))[0]
        shared = f", {group.shared}" if group.shared else ""
        return BesomError(
            f"study {self._spec.study_name}: {self._failed} of {total or self._book.done} trials failed, "
            f"{len(group.trials)} of them by '{group.reason}'{shared}; mend it, or raise hydra.sweeper.max_failure_rate"
        )

    # Starting trials.

    def _may_start(self, stop: Stop) -> bool:
        """Whether a trial may start now, if there is one."""
        in_time = self._deadline is None or time.monotonic() < self._deadline
        return in_time and not stop.asked and self.gave_up is None and not self._book.ran_out_of_patience

    def _in_hand_or_more(self) -> bool:
        return bool(self._again or self._next) or self._more()

    def _more(self) -> bool:
        """Whether another trial should be asked for."""
        total = self._book.total
        in_hand = len(self._running) + len(self._again) + (self._next is not None)
        return total is None or self._book.done + in_hand < total

    def _dispatch(self) -> None:
        for slot in self._pool.idle():
            attempt = self._take(slot)
            if attempt is not None:
                self._start(attempt, slot)
        if self._next is None and self._may_start(NOT_STOPPED) and self._more():
            self._next = self._ask()
            self._jobs.prefetch(self._next.asked.params)

    def _take(self, slot: Slot) -> Attempt | None:
        """The next attempt that may start in a slot, taken from where it waited."""
        if not self._may_start(NOT_STOPPED):
            return None
        for attempt in self._again:
            # One that must be alone holds its device until nothing else runs there.
            if attempt.alone and attempt.slot is not None and attempt.slot.shares(slot):
                return self._taken(attempt) if attempt.may_take(slot, self._running.values()) else None
        ready = next((attempt for attempt in self._again if not attempt.alone), None)
        if ready is None:
            ready = self._next or (self._ask() if self._more() else None)
            self._next = ready
        if ready is None or not ready.may_take(slot, self._running.values()):
            return None
        return self._taken(ready)

    def _taken(self, attempt: Attempt) -> Attempt:
        if attempt is self._next:
            self._next = None
        else:
            self._again.remove(attempt)
        return attempt

    def _ask(self) -> Attempt:
        return Attempt(asked=self._book.ask(self._jobs.overrides))

    def _start(self, attempt: Attempt, slot: Slot) -> None:
        # What an earlier attempt left is still being recorded.
        directory = self._scratch / f"{attempt.trial}-{attempt.number}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        attempt.slot, attempt.directory = slot, directory
        self._running[attempt.trial] = attempt
        self._board.started(attempt.trial, slot, attempt.number)
        try:
            assignment, card = self._jobs.prepare(attempt.asked, slot, directory)
        except ConfigError as error:
            attempt.card = self._jobs.card(attempt.asked, directory, {})
            self._failed_attempt(attempt, Failure(reason=str(error), blame=Blame.USER), None)
            return
        attempt.card = replace(card, attempt=attempt.number)
        self._pool.submit(slot, Bundle(assignments=(assignment,)))

    # What the workers say.

    def _handle(self, event: Event) -> None:
        match event:
            case Started(trial=trial, about=about):
                self._record(self._running[trial], about)
            case Reported() as reported:
                self._report(self._running[reported.trial], reported)
            case Finished() as finished:
                self._finished(self._running[finished.trial], finished)
            case Died(trials=trials, reason=reason):
                for trial in trials:
                    failed = Finished(trial=trial, state=State.FAIL, duration_s=0.0, failure=Failure(reason=reason))
                    self._finished(self._running[trial], failed)

    def _record(self, attempt: Attempt, about: Mapping[str, Any]) -> None:
        assert attempt.card is not None
        attempt.recorded = True
        about = dict(about)
        if "config" in about:  # another app's job is composed by its worker
            attempt.card = replace(attempt.card, config=about.pop("config"))
        self._recorder.start(attempt.trial, attempt.card, about)

    def _report(self, attempt: Attempt, reported: Reported) -> None:
        if attempt.verdict is Verdict.PRUNED:
            return  # the worker was not yet told: what it did since does not count
        trial, epoch, metrics = reported.trial, reported.epoch, reported.metrics
        value = metrics.get(self._spec.objective.name)
        attempt.epoch = epoch
        attempt.history[epoch] = metrics if self._constraints else {}
        self._recorder.report(trial, epoch, metrics, reported.time_s)
        self._board.reported(trial, epoch, value)
        if not self._spec.pruner or value is None or not math.isfinite(value) or epoch < self._jobs.first_step:
            return
        prune = self._book.report(attempt.asked.trial, epoch, value)
        if prune and attempt.verdict is None and epoch != self._last_epoch(attempt):
            attempt.verdict = Verdict.PRUNED
            assert attempt.slot is not None
            self._pool.stop(attempt.slot, trial, at_once=True)

    def _last_epoch(self, attempt: Attempt) -> int | None:
        # A trial that has come so far is complete: there is nothing left to save.
        trainer = attempt.card.config.get("trainer") if attempt.card else None
        return trainer.get("max_epochs") if isinstance(trainer, Mapping) else None

    def _finished(self, attempt: Attempt, finished: Finished) -> None:
        state, outcome, duration_s = finished.state, finished.outcome, finished.duration_s
        if attempt.verdict is Verdict.PRUNED or (state is State.PRUNED and attempt.verdict is None):
            self._pruned(attempt, duration_s)
        elif attempt.verdict is Verdict.INTERRUPTED and state is not State.COMPLETE:
            self._interrupted(attempt)
        elif outcome is not None:
            self._complete(attempt, outcome, duration_s)
        else:
            self._failed_attempt(attempt, finished.failure or Failure(reason="unknown"), duration_s)

    # How trials end.

    def _complete(self, attempt: Attempt, outcome: Outcome, duration_s: float) -> None:
        values = dict(zip((one.name for one in self._spec.objectives), outcome.values, strict=True))
        wrong = next((f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)), None)
        metrics = {**attempt.history.get(outcome.best_epoch or attempt.epoch, {}), **outcome.summary, **values}
        try:
            constraints = {one.key: one.value(metrics) for one in self._constraints}
        except ConfigError as error:
            wrong = wrong or str(error)
        if wrong is not None:
            self._failed_attempt(attempt, Failure(reason=wrong, blame=Blame.USER), duration_s)
            return
        about = self._about(attempt, duration_s, best_epoch=outcome.best_epoch)
        ending = Ending(state=State.COMPLETE, values=outcome.values, about=about, constraints=constraints)
        tags = tags_of(State.COMPLETE, outcome)
        if constraints:
            tags |= {"besom.feasible": str(ending.feasible).lower(), "besom.constraints": json.dumps(constraints)}
        self._jobs.complete(attempt.trial, outcome)
        self._end(attempt, ending, Status.FINISHED, metrics=best_metrics(self._spec.objectives, outcome), tags=tags)

    def _pruned(self, attempt: Attempt, duration_s: float) -> None:
        ending = Ending(state=State.PRUNED, about=self._about(attempt, duration_s))
        self._end(attempt, ending, Status.KILLED, tags={"besom.state": State.PRUNED})

    def _failed_attempt(self, attempt: Attempt, failure: Failure, duration_s: float | None) -> None:
        if failure.blame is Blame.DATA and self._has_everybodys_data(attempt):
            raise DataError(f"study {self._spec.study_name}: {failure.reason}")
        if not attempt.recorded:
            self._record(attempt, {})
        again = self._another(attempt, failure)
        if again is None:
            self._failed += 1
            ending = Ending(state=State.FAIL, about=self._about(attempt, duration_s, reason=failure.reason))
            self._end(attempt, ending, Status.FAILED, failure=failure, tags={"besom.state": State.FAIL})
            return
        del self._running[attempt.trial]
        self._recorder.finish(
            attempt.trial, Status.FAILED, last=False, traceback=failure.traceback or failure.reason,
            tags={"besom.state": "RETRIED", "besom.reason": failure.reason},
        )  # fmt: skip
        self._book.forget(attempt.asked.trial)
        self._board.retrying(attempt.trial, failure.reason)
        self._again.append(again)

    def _another(self, attempt: Attempt, failure: Failure) -> Attempt | None:
        """The next attempt at a trial that failed, if there is to be one."""
        if failure.blame is Blame.MEMORY and not attempt.alone and attempt.slot is not None:
            self._pool.replace(attempt.slot)  # whatever still lay on the device is gone with its process
            return attempt.again(alone=True)
        # What is wrong with a config stays wrong.
        return attempt.again() if failure.blame is Blame.CODE and attempt.number < self._spec.retries else None

    def _end(
        self,
        attempt: Attempt,
        ending: Ending,
        status: Status,
        *,
        tags: dict[str, str],
        metrics: Mapping[str, float] | None = None,
        failure: Failure | None = None,
    ) -> None:
        """Tell the study, the recorder and the board that a trial is over."""
        trial = attempt.trial
        del self._running[trial]
        self._book.tell(attempt.asked.trial, ending)
        reason = failure.reason if failure else None
        if ending.state is not State.COMPLETE:
            self._jobs.incomplete(trial, ending.state, reason)
        if reason is not None:
            tags = {**tags, "besom.reason": reason}
        traceback = (failure.traceback or failure.reason) if failure else None
        self._recorder.finish(trial, status, metrics=metrics, tags=tags, traceback=traceback)
        self._board.finished(trial, ending.state, ending.values, reason, ending.feasible)

    def _about(self, attempt: Attempt, duration_s: float | None, **more: Any) -> dict[str, Any]:
        config = attempt.card.config if attempt.card else {}
        about = {"family": family(config), "duration_s": duration_s, "epochs": attempt.epoch, **more}
        return about | ({"attempts": attempt.number + 1} if attempt.number else {})

    def _has_everybodys_data(self, attempt: Attempt) -> bool:
        """Whether the data are the same for every trial, so that what is wrong with them would fail all the others."""
        groups = {re.split(r"[.@]", key.lstrip("+"))[0] for key in attempt.asked.params}
        return not groups & {"data", "experiment"}

    def _replace_what_hangs(self) -> None:
        limit_s = self._spec.trial_timeout_s
        if limit_s is None:
            return
        for attempt in list(self._running.values()):
            assert attempt.slot is not None
            if attempt.began_s is None and self._pool.is_ready(attempt.slot):
                attempt.began_s = time.monotonic()
            if attempt.began_s is not None and time.monotonic() - attempt.began_s > limit_s:
                self._pool.replace(attempt.slot)
                reason = f"it took longer than hydra.sweeper.trial_timeout, {limit_s:g} s"
                self._failed_attempt(attempt, Failure(reason=reason, blame=Blame.USER), limit_s)

    def _settle(self) -> None:
        """Write to the study's storage what the recorder has written: a trial is over in both, or in neither."""
        for trial in self._recorder.ended():
            self._book.settle(trial)

    # Stopping.

    def _let_epochs_finish(self, stop: Stop) -> None:
        if stop.noticed:
            return
        stop.noticed = True
        self._board.stopping()
        for attempt in self._running.values():
            if attempt.verdict is None:
                attempt.verdict = Verdict.INTERRUPTED
                assert attempt.slot is not None
                self._pool.stop(attempt.slot, attempt.trial, at_once=False)

    def _interrupted(self, attempt: Attempt) -> None:
        """Record a trial that was stopped; it waits to be run again."""
        del self._running[attempt.trial]
        if attempt.recorded:
            self._recorder.finish(attempt.trial, Status.KILLED, last=False, tags={"besom.state": "INTERRUPTED"})
        elif attempt.directory is not None:
            shutil.rmtree(attempt.directory, ignore_errors=True)
        self._board.interrupted([attempt.trial])

    def _cut_off(self) -> None:
        """End at once what still trains; it waits to be run again."""
        if self._running:
            self._pool.close()  # it would write beside the recorder, and take its processor time
        for attempt in list(self._running.values()):
            self._interrupted(attempt)


NOT_STOPPED = Stop()
