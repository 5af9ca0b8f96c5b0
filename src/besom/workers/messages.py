"""What the parent and a worker say to each other over their pipe.

Every message is a frozen record of plain values, so that neither side needs the other's libraries: a worker
knows neither Optuna nor MLflow, the parent needs no torch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from besom.secrets.masks import without_secrets
from besom.system.source_file import SourceFile
from besom.training.progress import Outcome

if TYPE_CHECKING:
    from besom.config.trust import Trust


class State(StrEnum):
    """How a trial ended, by Optuna's names."""

    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One trial to run: its number, what to run it with, and an empty folder for what it leaves behind.

    Besom's own training takes the resolved `config`, a job of another Hydra app its `overrides`. Of a config that was
    read back from a run, `trust` says what may be built.
    """

    trial: int
    directory: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    trust: Trust | None = None


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Trials that one worker trains together. Parent to worker.

    `auto` leaves it to the worker how many of them train at once, and `slots` share the memory of its device.
    """

    assignments: tuple[Assignment, ...]
    auto: bool = False
    slots: int = 1

    @property
    def trials(self) -> tuple[int, ...]:
        """The numbers of the trials, in order."""
        return tuple(assignment.trial for assignment in self.assignments)


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A trial is to end early: before its next step, or once its epoch is over. Parent to worker."""

    trial: int
    at_once: bool


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The worker has imported what it needs and waits for its first bundle."""


@dataclass(frozen=True, kw_only=True)
class Sized:
    """Of the trials of a bundle, this one among them, so many train at once: more do not pay, or do not fit."""

    trial: int
    members: int
    of: int


@dataclass(frozen=True, kw_only=True)
class Started:
    """A trial's data and model are built; its first step is next.

    It began at `began_s`, in seconds since the epoch: when its worker took it up, or at its turn in its bundle.
    `sources` are all that its worker had imported by then; None where nobody knows, as of another launcher's job.
    """

    trial: int
    about: Mapping[str, Any]
    began_s: float = field(default_factory=time.time)
    sources: tuple[SourceFile, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A trial's metrics after `epoch` epochs; epoch 0 is before the first step."""

    trial: int
    epoch: int
    metrics: Mapping[str, float]
    time_s: float


class Blame(StrEnum):
    """What a failure is put down to, as far as it matters for what to do about it."""

    CODE = "code"  # anything that was raised: it may be gone the next time
    USER = "user"  # a mistake of the config: its message says it all, and nothing changes by trying again
    DATA = "data"  # the same, about the data
    MEMORY = "memory"  # the device has too little of it
    DISK = "disk"  # it is full: of no trial's doing, and each that comes would meet it


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a trial failed: one line, and the traceback behind it."""

    reason: str
    traceback: str | None = None
    blame: Blame = Blame.CODE

    def without_secrets(self) -> Failure:
        """The same with secrets masked, as far as this process knows them."""
        traceback = None if self.traceback is None else without_secrets(self.traceback)
        return replace(self, reason=without_secrets(self.reason), traceback=traceback)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A trial is over: complete with an outcome, failed with a failure, or pruned: stopped early.

    `worker` is the number of the process that ran it, and `host` its machine, where they are known.
    It took `duration_s`, and ended at `ended_s`, in seconds since the epoch, however much later that is heard.
    """

    trial: int
    state: State
    duration_s: float
    ended_s: float = field(default_factory=time.time)
    outcome: Outcome | None = None
    failure: Failure | None = None
    worker: int | None = None
    host: str | None = None


Message = Ready | Sized | Started | Reported | Finished
