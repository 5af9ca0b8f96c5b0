"""What runs next: which trial may start, in which slot, and whether one may start at all."""

from __future__ import annotations

import time
from collections import deque

from besom.errors import BesomError
from besom.reports.summary import failures_of
from besom.sweep.attempt import Attempt
from besom.sweep.jobs import Jobs
from besom.sweep.spec import SweepSpec
from besom.sweep.study import StudyBook, finished_trials
from besom.workers.devices import Slot
from besom.workers.messages import Blame, Failure, State

UNWRITTEN = 100
"""How many trials may be over and not yet written before new ones wait for the recorder.

Each of them holds its config in memory, and would be run again if the process died.
"""


class Agenda:
    """The attempts that run, those that wait, and the budgets of a sweep: trials, time, patience and failures.

    `running` are the attempts that have a slot, by trial.
    """

    def __init__(self, *, spec: SweepSpec, book: StudyBook, jobs: Jobs, unwritten: int = UNWRITTEN) -> None:
        self.running: dict[int, Attempt] = {}
        self._spec = spec
        self._book = book
        self._jobs = jobs
        self._again: deque[Attempt] = deque()  # failed, and to be tried once more
        self._next: Attempt | None = None
        self._failed: set[int] = set()
        self._unwritten: set[int] = set()
        self._most_unwritten = unwritten
        self._deadline = time.monotonic() + spec.timeout_s if spec.timeout_s is not None else None

    @property
    def goes_on(self) -> bool:
        """Whether there is a trial that may still start."""
        return self._in_budget and (bool(self._again or self._next) or self._more)

    @property
    def gave_up(self) -> BesomError | None:
        """What is wrong, when more trials failed than may fail."""
        if not self._too_many_failed:
            return None
        total = self._book.total
        # Failures of earlier sweeps were mended, or so the user thinks.
        ours = (
            trial for trial in finished_trials(self._book.study)
            if trial.state.name != State.FAIL or trial.number in self._failed
        )  # fmt: skip
        group = failures_of(list(ours))[0]
        shared = f", {group.shared}" if group.shared else ""
        return BesomError(
            f"study {self._spec.study_name}: {len(self._failed)} of {total or self._book.done} trials failed, "
            f"{len(group.trials)} of them by '{group.reason}'{shared}; mend it, or raise hydra.sweeper.max_failure_rate"
        )

    def take(self, slot: Slot) -> Attempt | None:
        """Return the next attempt that may start in an idle slot, if there is one; it counts as running there."""
        if not self._in_budget or len(self._unwritten) >= self._most_unwritten:
            return None
        attempt = self._first_for(slot)
        if attempt is None or not attempt.may_take(slot, self.running.values()):
            return None
        if attempt is self._next:
            self._next = None
        else:
            self._again.remove(attempt)
        attempt.slot = slot
        self.running[attempt.trial] = attempt
        return attempt

    def ask_ahead(self) -> None:
        """Ask for the trial that starts when a slot falls free, and make it ready."""
        if self._next is None and self._in_budget and self._more:
            self._next = self._ask()
            self._jobs.prefetch(self._next.asked.params)

    def stopped(self, attempt: Attempt) -> None:
        """An attempt does not run any more, and its trial is not over."""
        del self.running[attempt.trial]

    def another(self, attempt: Attempt, failure: Failure) -> Attempt | None:
        """Return the next attempt at a trial that failed, if there is to be one."""
        if failure.blame is Blame.MEMORY and not attempt.alone and attempt.slot is not None:
            return attempt.again(alone=True)
        # What is wrong with a config stays wrong.
        return attempt.again() if failure.blame is Blame.CODE and attempt.retries < self._spec.retries else None

    def retry(self, attempt: Attempt, again: Attempt) -> None:
        """An attempt failed, and its trial is to be tried again."""
        del self.running[attempt.trial]
        self._again.append(again)

    def over(self, attempt: Attempt, state: State) -> None:
        """A trial is over; its end is not yet written."""
        del self.running[attempt.trial]
        self._unwritten.add(attempt.trial)
        if state is State.FAIL:
            self._failed.add(attempt.trial)

    def written(self, trial: int) -> None:
        """The end of a trial is written."""
        self._unwritten.discard(trial)

    @property
    def _in_budget(self) -> bool:
        in_time = self._deadline is None or time.monotonic() < self._deadline
        return in_time and not self._too_many_failed and not self._book.ran_out_of_patience

    @property
    def _too_many_failed(self) -> bool:
        return len(self._failed) > self._spec.max_failure_rate * (self._book.total or max(self._book.done, 10))

    @property
    def _more(self) -> bool:
        """Whether another trial should be asked for."""
        total = self._book.total
        in_hand = len(self.running) + len(self._again) + (self._next is not None)
        return total is None or self._book.done + in_hand < total

    def _first_for(self, slot: Slot) -> Attempt | None:
        for attempt in self._again:
            # One that must be alone holds its device until nothing else runs there.
            if attempt.alone and attempt.slot is not None and attempt.slot.shares(slot):
                return attempt
        ready = next((attempt for attempt in self._again if not attempt.alone), None)
        if ready is None and self._next is None and self._more:
            self._next = self._ask()
        return ready or self._next

    def _ask(self) -> Attempt:
        return Attempt(asked=self._book.ask(self._jobs.overrides))
