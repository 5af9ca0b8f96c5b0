"""What a worker is there for, told to it once: the first message over its pipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from besom.training.progress import Channel, Outcome
from besom.workers.messages import Assignment, Bundle

if TYPE_CHECKING:
    from besom.config.trust import Trust

Run = Callable[[Assignment, Channel], Outcome]
"""Runs one trial. Raises TrialPruned when it was stopped early, and anything else when it failed."""


Over = Callable[[int, "Outcome | Exception"], None]
"""Told how a trial of a bundle ended: with an outcome, or with what a Run would have raised."""


SizeFound = Callable[[int, int, int], None]
"""Told, by a trial of a bundle, how many of how many train at once."""


class Task(Protocol):
    """A frozen record that is sent to a worker."""

    def load(self) -> Run:
        """Import what is needed, in the worker; return what runs a trial there."""


@runtime_checkable
class Bundling(Task, Protocol):
    """A task that can run several trials at once."""

    def run_together(self, bundle: Bundle, talks: Sequence[Channel], over: Over, sized: SizeFound) -> None:
        """Run the trials of a bundle, with a conversation for each; `sized` hears how many of them run at once.

        Raises what is wrong with all of those that `over` was not told of.
        """


@dataclass(frozen=True)
class Inspection:
    """Import what a config names, and refuse what lacks a hook that will be called; nothing is built."""

    def load(self) -> Run:
        """Import Lightning, which takes seconds."""
        from besom.config.targets import check_targets
        from besom.training.hooks import check_hooks

        def run(assignment: Assignment, channel: Channel) -> Outcome:
            check_targets(assignment.config)
            check_hooks(assignment.config)
            return Outcome(values=())

        return run


@dataclass(frozen=True)
class Training:
    """Train Besom's own configs: such as the user composed, or, given whom he trusts, recorded ones."""

    trust: Trust | None = None

    def load(self) -> Run:
        """Import torch and Lightning, which takes seconds."""
        from besom.training.folds import train_trial

        def run(assignment: Assignment, channel: Channel) -> Outcome:
            self._check(assignment)
            return train_trial(assignment.config, channel=channel, directory=assignment.directory)

        return run

    def run_together(self, bundle: Bundle, talks: Sequence[Channel], over: Over, sized: SizeFound) -> None:
        """Train those that may share a stack in one, or in several where that pays, and the others one by one."""
        from besom.bundle.compatibility import bundle_key
        from besom.bundle.size import Sizing, found_here
        from besom.bundle.train import Entry, train_bundle, train_unbundled

        stacks: dict[str, list[Entry]] = {}
        for one, talk in zip(bundle.assignments, talks, strict=True):
            self._check(one)
            entry = Entry(one.trial, one.config, talk, one.directory)
            stacks.setdefault(bundle_key(one.config) or str(one.trial), []).append(entry)
        for key, entries in stacks.items():
            if len(entries) > 1:
                sizing = Sizing(bundle_key=key, auto=bundle.auto, slots=bundle.slots, tell=sized, found=found_here())
                train_bundle(entries, over, sizing)
            else:
                train_unbundled(entries[0], over)

    def _check(self, assignment: Assignment) -> None:
        trust = assignment.trust or self.trust
        if trust is not None:
            trust.check(assignment.config)
