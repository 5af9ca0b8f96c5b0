"""Counts of a running sweep: trials by state, the best value, the pace. Cheap to update, independent of the display."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from besom.config.objectives import Objective
from besom.config.units import Unit
from besom.reports.read.pareto import Front
from besom.sweep.progress.events import Dispatched, Ended, Requeued, Retried, SweepEvent
from besom.workers.devices import Slot
from besom.workers.messages import Reported, State

_PACE = 30
"""The number of last trials from which the pace is computed."""


@dataclass(kw_only=True)
class Running:
    """A running trial: its slot, its start in seconds, the number of its last report, and the value there."""

    slot: Slot
    attempt: int
    since_s: float
    reached: int = 0
    value: float | None = None


class TrialCounts:
    """Counts trials by their events, and their reports by `axis`; `clock` returns seconds."""

    def __init__(
        self,
        objectives: Sequence[Objective],
        *,
        total: int | None,
        timeout_s: float | None = None,
        axis: Unit = Unit.EPOCH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.objectives = tuple(objectives)
        self.total = total
        self.axis = axis
        self._followed = next((objective for objective in self.objectives if not objective.is_cost), self.objectives[0])
        self.running: dict[int, Running] = {}
        self.by_state: Counter[State] = Counter()
        self.best: tuple[int, float] | None = None  # of a single objective
        self.front = Front(objectives)  # of several
        self.waiting: list[int] = []  # interrupted, to be run again
        self.best_values: list[float] = []  # the best value after each complete trial
        self._timeout_s = timeout_s
        self._clock = clock
        self._began: float | None = None
        self._ends: deque[float] = deque(maxlen=_PACE)

    @property
    def done(self) -> int:
        """The number of finished trials."""
        return sum(self.by_state.values())

    def update(self, event: SweepEvent) -> None:
        """Count an event."""
        match event:
            case Dispatched(trial=trial, slot=slot, attempt=attempt):
                now = self._clock()
                if self._began is None:
                    self._began = now
                    self._ends.append(now)
                self.running[trial] = Running(slot=slot, attempt=attempt, since_s=now)
            case Reported(trial=trial, metrics=metrics) if trial in self.running:
                running = self.running[trial]
                running.reached = event.at(self.axis)
                running.value = metrics.get(self.objectives[0].name, running.value)
            case Retried(trial=trial):
                self.running.pop(trial, None)
            case Requeued(trial=trial):
                self.waiting.append(trial)
                self.running.pop(trial, None)
            case Ended(trial=trial, result=result):
                self._ends.append(self._clock())
                self.running.pop(trial, None)
                self.add(trial, result.state, result.values, feasible=result.feasible)

    def add(self, trial: int, state: State, values: tuple[float, ...], *, feasible: bool) -> None:
        """Count a finished trial, also one of an earlier run of the sweep."""
        self.by_state[state] += 1
        if state is not State.COMPLETE or not feasible or len(values) != len(self.objectives):
            return
        if len(self.objectives) > 1:
            self.front.add(trial, values)
            return
        if self.best is None or self.objectives[0].better(values[0], self.best[1]):
            self.best = (trial, values[0])
        self.best_values.append(self.best[1])

    def leads(self, value: float | None) -> bool:
        """Return whether a running trial's value is better than the best so far."""
        if value is None or len(self.objectives) > 1 or self.best is None:
            return False
        return self.objectives[0].better(value, self.best[1])

    def ahead(self, running: Mapping[int, Running]) -> int:
        """Return the trial with the best value; the first one while none has a value."""

        def rank(trial: int) -> float:
            value = running[trial].value
            if value is None:
                return math.inf
            return -value if self._followed.direction == "maximize" else value

        return min(running, key=rank)

    def seconds_since(self, moment_s: float) -> float:
        """Return the seconds since a moment on the clock of these counts."""
        return self._clock() - moment_s

    @property
    def per_minute(self) -> float | None:
        """Trials per minute over the last ones; None until a trial is over."""
        if len(self._ends) < 2:
            return None
        return 60 * (len(self._ends) - 1) / max(self._clock() - self._ends[0], 1e-9)

    @property
    def left_s(self) -> float | None:
        """Seconds until all trials are done or the time is up, whichever is first; None if neither is known."""
        by_time = by_count = None
        if self._timeout_s is not None and self._began is not None:
            by_time = max(0.0, self._timeout_s - self.seconds_since(self._began))
        if self.total is not None and self.per_minute is not None:
            by_count = 60 * max(0, self.total - self.done) / self.per_minute
        return min((left for left in (by_time, by_count) if left is not None), default=None)
