"""What runs next: which trial may start, in which slot, and whether one may start at all."""

from __future__ import annotations

import time
from collections import deque
from itertools import islice

from besom.errors import BesomError
from besom.reports.read.summary import failures_of
from besom.sweep.attempt import Attempt
from besom.sweep.jobs import Jobs
from besom.sweep.spec import SweepSpec
from besom.sweep.study.study import StudyBook, finished_trials
from besom.workers.devices import Slot
from besom.workers.messages import Blame, Failure, State

UNWRITTEN = 100
"""How many trials may be over and not yet written before new ones wait for the recorder.

Each of them holds its config in memory, and would be run again if the process died.
"""


_AT_FIRST = 8
"""How many trials share a slot under `auto`, before a worker has measured how many pay."""


class Scheduler:
    """The attempts that run, those that wait, and the budgets of a sweep: trials, time, patience and failures.

    `running` are the attempts that have a slot, by trial. As many as `lanes` share a slot, where they may; under `auto`
    as many as a worker has found to pay, and twice as many as long as all of them do.
    """

    def __init__(
        self, *, spec: SweepSpec, book: StudyBook, jobs: Jobs, members: int = 1, unwritten: int = UNWRITTEN
    ) -> None:
        self.running: dict[int, Attempt] = {}
        self._spec = spec
        self._book = book
        self._jobs = jobs
        self._members = members
        self._paying: dict[str, int] = {}  # by the company of trials, as the workers found
        self._again: deque[Attempt] = deque()  # failed, and to be tried once more
        self._ahead: deque[Attempt] = deque()  # asked, and not yet started
        self._failed: set[int] = set()
        self._unwritten: set[int] = set()
        self._most_unwritten = unwritten
        self._deadline = time.monotonic() + spec.timeout_s if spec.timeout_s is not None else None

    @property
    def goes_on(self) -> bool:
        """Whether there is a trial that may still start."""
        return self._in_budget and (bool(self._again or self._ahead) or self._more)

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

    def take(self, slot: Slot) -> list[Attempt]:
        """Return the attempts that may start together in an idle slot; they count as running there."""
        if not self._in_budget or len(self._unwritten) >= self._most_unwritten:
            return []
        first = self._first_for(slot)
        if first is None or not first.may_take(slot, self.running.values()):
            return []
        together = self._with_company(first)
        for attempt in together:
            (self._ahead if attempt in self._ahead else self._again).remove(attempt)
            attempt.slot, attempt.bundled = slot, len(together)
            self.running[attempt.trial] = attempt
        return together

    def ask_ahead(self) -> None:
        """Ask for the trials that start when a slot falls free, a few at a time, and make them ready."""
        for _ in range(_AT_FIRST):  # each takes a while, in which nobody listens to the workers
            wanted = max(map(self._at_once, self._ahead), default=1)
            if len(self._ahead) >= wanted or not self._in_budget or not self._more:
                return
            self._ask()

    def sized(self, attempt: Attempt, members: int, of: int) -> None:
        """Of the trials of an attempt's bundle, so many train at once."""
        assert attempt.bundle_key is not None
        self._paying[attempt.bundle_key] = members if members < of else max(self._at_once(attempt), 2 * of)

    def stopped(self, attempt: Attempt) -> None:
        """An attempt does not run any more, and its trial is not over."""
        del self.running[attempt.trial]

    def another(self, attempt: Attempt, failure: Failure) -> Attempt | None:
        """Return the next attempt at a trial that failed, if there is to be one."""
        if attempt.bundled > 1 and failure.blame in (Blame.CODE, Blame.MEMORY):
            return attempt.again(unbundled=True)  # which of them it was is not known
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
        in_hand = len(self.running) + len(self._again) + len(self._ahead)
        return total is None or self._book.done + in_hand < total

    def _first_for(self, slot: Slot) -> Attempt | None:
        for attempt in self._again:
            # One that must be alone holds its device until nothing else runs there.
            if attempt.alone and attempt.slot is not None and attempt.slot.shares(slot):
                return attempt
        ready = next((attempt for attempt in self._again if not attempt.alone), None)
        if ready is None and not self._ahead and self._more:
            self._ask()
        return ready or (self._ahead[0] if self._ahead else None)

    def _with_company(self, first: Attempt) -> list[Attempt]:
        """The attempts that start with the first one: it alone, or as many as may share its bundle."""
        together = [first]
        wanted = self._at_once(first)
        if wanted == 1:
            return together
        for _ in range(wanted):  # of those asked for in vain, none is asked for again
            others = (other for other in self._ahead if other is not first and other.bundle_key == first.bundle_key)
            together = [first, *islice(others, wanted - 1)]
            if len(together) == wanted or not self._more:
                break
            self._ask()
        return together

    def _at_once(self, attempt: Attempt) -> int:
        """How many trials an attempt's bundle is to hold."""
        if attempt.bundle_key is None or attempt.unbundled:
            return 1
        at_first = _AT_FIRST if self._spec.bundle == "auto" else self._members
        return min(self._members, self._paying.get(attempt.bundle_key, at_first))

    def _ask(self) -> None:
        asked = self._book.ask(self._jobs.overrides)
        self._ahead.append(Attempt(asked=asked, bundle_key=self._jobs.prefetch(asked)))
