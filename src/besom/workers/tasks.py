"""The tasks of a worker: the first message over its pipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from besom.training.progress import Channel, OnFinished
from besom.training.result import TrialResult
from besom.workers.messages import Assignment, Bundle

if TYPE_CHECKING:
    from besom.config.targets.trust import Trust

Run = Callable[[Assignment, Channel], TrialResult]
"""Runs one trial. Raises TrialPruned when it was stopped early, and any other exception when it failed."""


_OnSized = Callable[[int, int, int], None]
"""Receives a trial of a bundle, the number of members that train at once, and the number of members."""


class Task(Protocol):
    """A frozen dataclass that is sent to a worker."""

    def load(self) -> Run:
        """Import the libraries, in the worker; return the function that runs a trial."""


@runtime_checkable
class Spawning(Task, Protocol):
    """A task whose trials may start a process for each of their devices themselves, as Lightning's ddp_spawn does."""

    spawns: bool


@runtime_checkable
class Bundling(Task, Protocol):
    """A task that can run several trials at once."""

    def run_together(
        self, bundle: Bundle, channels: Sequence[Channel], on_finished: OnFinished, on_sized: _OnSized
    ) -> None:
        """Run the trials of a bundle, with a channel for each; `on_sized` receives how many of them run at once.

        Raises the exception common to all trials that were not passed to `on_finished`.
        """


@dataclass(frozen=True)
class Inspection:
    """Import what a config names, refuse classes without a required hook and unread keys; nothing is built."""

    def load(self) -> Run:
        """Import Lightning, which takes seconds."""
        from besom.config.targets.check import check_targets
        from besom.training.hooks import check_hooks, check_model_keys

        def run(assignment: Assignment, channel: Channel) -> TrialResult:
            check_targets(assignment.config)
            check_hooks(assignment.config)
            check_model_keys(assignment.config, assignment.model_keys)
            return TrialResult(values=())

        return run


@dataclass(frozen=True)
class Training:
    """Train Besom's own configs: those that the user composed or, within `trust`, recorded ones."""

    trust: Trust | None = None

    def load(self) -> Run:
        """Import torch and Lightning, which takes seconds."""
        from besom.training.folds import train_trial
        from besom.training.hooks import check_model_keys

        def run(assignment: Assignment, channel: Channel) -> TrialResult:
            self._check(assignment)
            check_model_keys(assignment.config, assignment.model_keys)
            return train_trial(assignment.config, channel=channel, directory=assignment.directory)

        return run

    def run_together(
        self, bundle: Bundle, channels: Sequence[Channel], on_finished: OnFinished, on_sized: _OnSized
    ) -> None:
        """Train trials that may share a stack in one, or in several where that pays, and the others one by one."""
        from besom.bundle.compatibility import bundle_key
        from besom.bundle.size import Sizing, measured_sizes
        from besom.bundle.train import Entry, train_bundle, train_unbundled

        stacks: dict[str, list[Entry]] = {}
        for assignment, channel in zip(bundle.assignments, channels, strict=True):
            self._check(assignment)
            entry = Entry(assignment.trial, assignment.config, channel, assignment.directory)
            stacks.setdefault(bundle_key(assignment.config) or str(assignment.trial), []).append(entry)
        for key, entries in stacks.items():
            if len(entries) > 1:
                sizing = Sizing(
                    bundle_key=key, auto=bundle.auto, slots=bundle.slots, on_sized=on_sized, measured=measured_sizes()
                )
                train_bundle(entries, on_finished, sizing)
            else:
                train_unbundled(entries[0], on_finished)

    def _check(self, assignment: Assignment) -> None:
        trust = assignment.trust or self.trust
        if trust is not None:
            trust.check(assignment.config)
