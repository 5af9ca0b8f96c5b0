"""Observers of a running sweep: the interface, the fan-out to several, and one for quiet sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.console import Console

from besom.config.objectives import Objective
from besom.reports.format import number
from besom.reports.read.failures import numbered
from besom.system.console import warn
from besom.workers.devices import Slot
from besom.workers.messages import State

STOPPING = "stopping: what runs may finish its epoch; ctrl-C again stops at once"


class Observer:
    """The base class of observers; each method handles one event, and here does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the observation; a live view is removed."""

    def started(self, trial: int, slot: Slot, attempt: int = 0) -> None:
        """Handle the start of a trial in a slot; `attempt` counts from 0."""

    def sized(self, trial: int, members: int, of: int) -> None:
        """Handle a bundle's size: `members` of its `of` trials, among them this one, train at once."""

    def reported(self, trial: int, epoch: int, value: float | None) -> None:
        """Handle the end of a trial's epoch, with its value of the first objective."""

    def finished(
        self, trial: int, state: State, values: tuple[float, ...], reason: str | None, feasible: bool = True
    ) -> None:
        """Handle the end of a trial: complete with a value per objective, pruned, or failed for a reason."""

    def retrying(self, trial: int, reason: str) -> None:
        """Handle a failed attempt of a trial that will be retried."""

    def interrupted(self, trials: Sequence[int]) -> None:
        """Handle interrupted trials, which the same command runs again."""

    def warned(self, text: str) -> None:
        """Handle a warning."""

    def stopping(self) -> None:
        """Handle a stop request: running epochs may end; a second request stops at once."""

    def refresh(self) -> None:
        """Redraw if necessary."""


class Observers(Observer):
    """Passes each event to several observers."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for observer in self._observers:
                stack.enter_context(observer)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def started(self, trial: int, slot: Slot, attempt: int = 0) -> None:
        """Call every observer."""
        for observer in self._observers:
            observer.started(trial, slot, attempt)

    def sized(self, trial: int, members: int, of: int) -> None:
        """Call every observer."""
        for observer in self._observers:
            observer.sized(trial, members, of)

    def reported(self, trial: int, epoch: int, value: float | None) -> None:
        """Call every observer."""
        for observer in self._observers:
            observer.reported(trial, epoch, value)

    def finished(
        self, trial: int, state: State, values: tuple[float, ...], reason: str | None, feasible: bool = True
    ) -> None:
        """Call every observer."""
        for observer in self._observers:
            observer.finished(trial, state, values, reason, feasible)

    def retrying(self, trial: int, reason: str) -> None:
        """Call every observer."""
        for observer in self._observers:
            observer.retrying(trial, reason)

    def interrupted(self, trials: Sequence[int]) -> None:
        """Call every observer."""
        for observer in self._observers:
            observer.interrupted(trials)

    def warned(self, text: str) -> None:
        """Call every observer."""
        for observer in self._observers:
            observer.warned(text)

    def stopping(self) -> None:
        """Call every observer."""
        for observer in self._observers:
            observer.stopping()

    def refresh(self) -> None:
        """Call every observer."""
        for observer in self._observers:
            observer.refresh()


class QuietObserver(Observer):
    """Prints warnings and the confirmation of a stop request only."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def warned(self, text: str) -> None:
        """Print the warning."""
        warn(self._console, text)

    def stopping(self) -> None:
        """Confirm the stop request."""
        self._console.print(STOPPING, highlight=False, markup=False, soft_wrap=True)


def outcome(
    objectives: Sequence[Objective],
    state: State,
    values: Sequence[float],
    reason: str | None,
    *,
    feasible: bool = True,
    epoch: int = 0,
) -> str:
    """Return a trial's result as text: its values, the epoch at which it was pruned, or why it failed."""
    named = "  ".join(f"{objective.name} {number(value)}" for objective, value in zip(objectives, values, strict=False))
    match state:
        case State.COMPLETE:
            return named if feasible else f"{named}, infeasible"
        case State.PRUNED:
            return "  ".join(filter(None, (f"pruned after epoch {epoch}" if epoch else "pruned", named)))
        case State.FAIL:
            return f"FAILED: {reason or 'unknown'}"


def told_kept(count: int) -> str:
    """Return the warning that runs are kept as files, since the tracking server is unreachable."""
    which = f"{count} run{'s are' if count > 1 else ' is'}"
    return f"{which} not recorded yet, since the tracking server is away; the same command records what is kept of them"


def told_trials(trials: Sequence[int]) -> str:
    """Return the numbers of trials as text, only the first few of many."""
    return f"trial{'s' * (len(trials) > 1)} {numbered(trials)}"
