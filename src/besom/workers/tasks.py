"""What a worker is there for, told to it once: the first message over its pipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from besom.conversation import Conversation, Outcome
from besom.workers.messages import Assignment

Run = Callable[[Assignment, Conversation], Outcome]
"""Runs one trial. Raises TrialPruned when it was stopped early, and anything else when it failed."""


Over = Callable[[int, "Outcome | Exception"], None]
"""Told how a trial of a bundle ended: with an outcome, or with what a Run would have raised."""


class Task(Protocol):
    """A frozen record that is sent to a worker."""

    def load(self) -> Run:
        """Import what is needed, in the worker; return what runs a trial there."""


@runtime_checkable
class Bundling(Task, Protocol):
    """A task that can run several trials at once."""

    def run_together(self, trials: Sequence[tuple[Assignment, Conversation]], over: Over) -> None:
        """Run the trials of a bundle; raises what is wrong with all of those that `over` was not told of."""


@dataclass(frozen=True)
class Training:
    """Train Besom's own configs."""

    def load(self) -> Run:
        """Import torch and Lightning, which takes seconds."""
        from besom.train import train

        def run(assignment: Assignment, conversation: Conversation) -> Outcome:
            return train(assignment.config, conversation=conversation, directory=assignment.directory)

        return run

    def run_together(self, trials: Sequence[tuple[Assignment, Conversation]], over: Over) -> None:
        """Train those that may share a stack in one, and the others one after the other."""
        from besom.bundle.sharing import company
        from besom.bundle.training import Entry, train_bundle

        stacks: dict[str | int, list[tuple[Assignment, Conversation]]] = {}
        for assignment, conversation in trials:
            stacks.setdefault(company(assignment.config) or assignment.trial, []).append((assignment, conversation))
        for stack in stacks.values():
            if len(stack) > 1:
                train_bundle([Entry(one.trial, one.config, talk, one.directory) for one, talk in stack], over)
            else:
                self._run_alone(*stack[0], over)

    def _run_alone(self, assignment: Assignment, conversation: Conversation, over: Over) -> None:
        came_to: Outcome | Exception
        try:
            came_to = self.load()(assignment, conversation)
        except Exception as error:
            came_to = error
        over(assignment.trial, came_to)
