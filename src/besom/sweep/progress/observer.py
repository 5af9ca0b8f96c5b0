"""Who is told what happens in a sweep while it runs, whatever they make of it."""

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
    """Is told what happens, and shows nothing: each kind of board says what it shows."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; what was shown for the time being goes away."""

    def started(self, trial: int, slot: Slot, attempt: int = 0) -> None:
        """A trial was handed to a slot; `attempt` counts from 0."""

    def sized(self, trial: int, members: int, of: int) -> None:
        """Of the trials of a bundle, this one among them, so many train at once."""

    def reported(self, trial: int, epoch: int, value: float | None) -> None:
        """A trial reached an epoch, with this value of the leading objective."""

    def finished(
        self, trial: int, state: State, values: tuple[float, ...], reason: str | None, feasible: bool = True
    ) -> None:
        """A trial is over: complete with a value for each objective, pruned, or failed for a reason."""

    def retrying(self, trial: int, reason: str) -> None:
        """An attempt failed, and the trial is to be run again."""

    def interrupted(self, trials: Sequence[int]) -> None:
        """These trials were stopped; the same command takes them up again."""

    def warned(self, text: str) -> None:
        """Something is not as it was when the sweep began."""

    def stopping(self) -> None:
        """The user asked to stop: running epochs may end, and a second time stops at once."""

    def refresh(self) -> None:
        """Redraw, if it is time."""


class Observers(Observer):
    """Tells several boards."""

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
        """Tell them all."""
        for observer in self._observers:
            observer.started(trial, slot, attempt)

    def sized(self, trial: int, members: int, of: int) -> None:
        """Tell them all."""
        for observer in self._observers:
            observer.sized(trial, members, of)

    def reported(self, trial: int, epoch: int, value: float | None) -> None:
        """Tell them all."""
        for observer in self._observers:
            observer.reported(trial, epoch, value)

    def finished(
        self, trial: int, state: State, values: tuple[float, ...], reason: str | None, feasible: bool = True
    ) -> None:
        """Tell them all."""
        for observer in self._observers:
            observer.finished(trial, state, values, reason, feasible)

    def retrying(self, trial: int, reason: str) -> None:
        """Tell them all."""
        for observer in self._observers:
            observer.retrying(trial, reason)

    def interrupted(self, trials: Sequence[int]) -> None:
        """Tell them all."""
        for observer in self._observers:
            observer.interrupted(trials)

    def warned(self, text: str) -> None:
        """Tell them all."""
        for observer in self._observers:
            observer.warned(text)

    def stopping(self) -> None:
        """Tell them all."""
        for observer in self._observers:
            observer.stopping()

    def refresh(self) -> None:
        """Tell them all."""
        for observer in self._observers:
            observer.refresh()


class QuietObserver(Observer):
    """Says nothing of its own accord but warnings; it answers a ctrl-C."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def warned(self, text: str) -> None:
        """Say it."""
        warn(self._console, text)

    def stopping(self) -> None:
        """Say that it was heard."""
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
    """How a trial ended, in a few words: its values, or at which epoch it was pruned, or why it failed."""
    named = "  ".join(f"{one.name} {number(value)}" for one, value in zip(objectives, values, strict=False))
    match state:
        case State.COMPLETE:
            return named if feasible else f"{named}, infeasible"
        case State.PRUNED:
            return "  ".join(filter(None, (f"pruned after epoch {epoch}" if epoch else "pruned", named)))
        case State.FAIL:
            return f"FAILED: {reason or 'unknown'}"


def told_kept(count: int) -> str:
    """That runs are kept for the next start, since the tracking server is away."""
    which = f"{count} run{'s are' if count > 1 else ' is'}"
    return f"{which} not recorded yet, since the tracking server is away; the same command records what is kept of them"


def told_trials(trials: Sequence[int]) -> str:
    """Some trials by their numbers, the first few of many."""
    return f"trial{'s' * (len(trials) > 1)} {numbered(trials)}"
