"""What a worker is there for, told to it once: the first message over its pipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from besom.conversation import Conversation, Outcome
from besom.workers.messages import Assignment

Run = Callable[[Assignment, Conversation], Outcome]
"""Runs one trial. Raises TrialPruned when it was stopped early, and anything else when it failed."""


class Task(Protocol):
    """A frozen record that is sent to a worker."""

    def load(self) -> Run:
        """Import what is needed, in the worker; return what runs a trial there."""


@dataclass(frozen=True)
class Training:
    """Train Besom's own configs."""

    def load(self) -> Run:
        """Import torch and Lightning, which takes seconds."""
        from besom.train import train

        def run(assignment: Assignment, conversation: Conversation) -> Outcome:
            return train(assignment.config, conversation=conversation, directory=assignment.directory)

        return run
