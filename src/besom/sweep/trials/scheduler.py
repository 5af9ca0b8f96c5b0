"""The scheduler: which trial starts next, in which slot, and whether another one may start at all."""

from __future__ import annotations

import time
from collections import deque
from itertools import islice

from besom.errors import BesomError
from besom.reports.read.summary import failures_of
from besom.sweep.spec_parts import BudgetSpec
from besom.sweep.study.book import Book
from besom.sweep.study.study import finished_trials
from besom.sweep.trials.attempt import Attempt
from besom.sweep.trials.jobs import Jobs
from besom.workers.devices import Slot
from besom.workers.messages import Blame, Failure, State

UNWRITTEN = 100
"""The number of finished trials that the recorder has not written yet at which new ones wait.

Each of them holds its config in memory, and would run again if the process died.
"""


_INITIAL_MEMBERS = 8
"""The size of a bundle under `bundle=auto` until a worker has measured which size is fastest."""


class Scheduler:
    """The running and the waiting attempts, and the budgets of a sweep: trials, time, patience and failures.

    `running` holds the attempts that have a slot, by trial. A bundle has at most `members` trials; with `auto`, the
    size that a worker found to be fastest, doubled as long as the whole bundle trains at once.
    """

    def __init__(
        self,
        *,
        study_name: str,
        budget: BudgetSpec,
        book: Book,
        jobs: Jobs,
        members: int = 1,
        auto: bool = False,
        unwritten: int = UNWRITTEN,
    ) -> None:
        self.running: dict[int, Attempt] = {}
        self._study_name = study_name
        self._budget = budget
        self._book = book
        self._jobs = jobs
        self._members = members
        self._initial_members = min(_INITIAL_MEMBERS, members) if auto else members
        self._best_sizes: dict[str, int] = {}  # by bundle key, as measured by the workers
        self._again: deque[Attempt] = deque()  # to be retried
        self._ahead: deque[Attempt] = deque()  # asked for and not started
        self._failed: set[int] = set()
        self._unwritten: set[int] = set()
        self._most_unwritten = unwritten
        self._deadline = time.monotonic() + budget.timeout_s if budget.timeout_s is not None else None

    @property
    def has_more(self) -> bool:
        """True if another trial may still start."""
        return self._in_budget and (bool(self._again or self._ahead) or self._wants_more)

    @property
    def gave_up(self) -> BesomError | None:
        """The error to raise when more trials failed than `max_failure_rate` allows."""
        if not self._too_many_failed:
            return None
        total = self._book.total
        # Failures of earlier runs of this sweep do not count: the user has presumably fixed them.
        counted = (
            trial for trial in finished_trials(self._book.study)
            if trial.state.name != State.FAIL or trial.number in self._failed
        )  # fmt: skip
        group = failures_of(list(counted))[0]
        shared = f", {group.shared}" if group.shared else ""
        return BesomError(
            f"study {self._study_name}: {len(self._failed)} of {total or self._book.done} trials failed, "
            f"{len(group.trials)} of them by '{group.reason}'{shared}; mend it, or raise hydra.sweeper.max_failure_rate"
        )

    def take(self, slot: Slot) -> list[Attempt]:
        """Return the attempts that start together in an idle slot, and count them as running there."""
        if not self._in_budget or len(self._unwritten) >= self._most_unwritten:
            return []
        first = self._first_for(slot)
        if first is None or not first.may_take(slot, self.running.values()):
            return []
        together = self._bundle_for(first)
        for attempt in together:
            (self._ahead if attempt in self._ahead else self._again).remove(attempt)
            attempt.slot, attempt.bundled = slot, len(together)
            self.running[attempt.trial] = attempt
        return together

    def ask_ahead(self) -> None:
        """Ask for the trials that start when a slot becomes free, a few at a time, and prepare them."""
        for _ in range(_INITIAL_MEMBERS):  # events of the workers wait meanwhile
            wanted = max(map(self._bundle_size, self._ahead), default=1)
            if len(self._ahead) >= wanted or not self._in_budget or not self._wants_more:
                return
            self._ask()

    def sized(self, attempt: Attempt, members: int, of: int) -> None:
        """Note that `members` of the `of` trials in an attempt's bundle train at once."""
        assert attempt.bundle_key is not None
        self._best_sizes[attempt.bundle_key] = members if members < of else max(self._bundle_size(attempt), 2 * of)

    def stopped(self, attempt: Attempt) -> None:
        """Note that an attempt was stopped before its trial was over."""
        del self.running[attempt.trial]

    def another(self, attempt: Attempt, failure: Failure) -> Attempt | None:
        """Return the next attempt at a trial that failed, None if there is none."""
        if attempt.bundled > 1 and failure.blame in (Blame.CODE, Blame.MEMORY):
            return attempt.again(unbundled=True)  # which member failed is unknown
        if failure.blame is Blame.MEMORY and not attempt.exclusive and attempt.slot is not None:
            return attempt.again(exclusive=True)
        # An error in a config or in the data would only repeat itself.
        return attempt.again() if failure.blame is Blame.CODE and attempt.retries < self._budget.retries else None

    def retry(self, attempt: Attempt, again: Attempt) -> None:
        """Replace a failed attempt by the next one, which waits for a slot."""
        del self.running[attempt.trial]
        self._again.append(again)

    def over(self, attempt: Attempt, state: State) -> None:
        """Note that a trial is over and not written yet."""
        del self.running[attempt.trial]
        self._unwritten.add(attempt.trial)
        if state is State.FAIL:
            self._failed.add(attempt.trial)

    def written(self, trial: int) -> None:
        """Note that the end of a trial is written."""
        self._unwritten.discard(trial)

    @property
    def _in_budget(self) -> bool:
        in_time = self._deadline is None or time.monotonic() < self._deadline
        return in_time and not self._too_many_failed and not self._book.ran_out_of_patience

    @property
    def _too_many_failed(self) -> bool:
        return len(self._failed) > self._budget.max_failure_rate * (self._book.total or max(self._book.done, 10))

    @property
    def _wants_more(self) -> bool:
        """True if the study should be asked for another trial."""
        total = self._book.total
        in_hand = len(self.running) + len(self._again) + len(self._ahead)
        return total is None or self._book.done + in_hand < total

    def _first_for(self, slot: Slot) -> Attempt | None:
        for attempt in self._again:
            # An exclusive attempt blocks its device until nothing else runs there.
            if attempt.exclusive and attempt.slot is not None and attempt.slot.shares(slot):
                return attempt
        ready = next((attempt for attempt in self._again if not attempt.exclusive), None)
        if ready is None and not self._ahead and self._wants_more:
            self._ask()
        return ready or (self._ahead[0] if self._ahead else None)

    def _bundle_for(self, first: Attempt) -> list[Attempt]:
        """Return the attempts that start together: the first one, and those that may share its bundle."""
        together = [first]
        wanted = self._bundle_size(first)
        if wanted == 1:
            return together
        for _ in range(wanted):  # no more requests than that: new trials may not fit into this bundle
            others = (other for other in self._ahead if other is not first and other.bundle_key == first.bundle_key)
            together = [first, *islice(others, wanted - 1)]
            if len(together) == wanted or not self._wants_more:
                break
            self._ask()
        return together

    def _bundle_size(self, attempt: Attempt) -> int:
        """Return how many trials the bundle of an attempt should hold."""
        if attempt.bundle_key is None or attempt.unbundled:
            return 1
        return min(self._members, self._best_sizes.get(attempt.bundle_key, self._initial_members))

    def _ask(self) -> None:
        asked = self._book.ask()
        self._book.write_asked(asked.number, self._jobs.overrides(asked.params))
        self._ahead.append(Attempt(asked=asked, bundle_key=self._jobs.prefetch(asked)))
