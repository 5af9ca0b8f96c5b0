"""The messages between the parent process and a worker.

Every message is a frozen dataclass of plain values, so that neither side needs the other's libraries: a worker
imports neither Optuna nor MLflow, the parent process does not import torch.
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
    from besom.config.targets.trust import Trust


class State(StrEnum):
    """The final state of a trial, by Optuna's names."""

    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A trial to run: its number, its config or overrides, and an empty folder for its files.

    Besom's own training uses the resolved `config`, a job of another Hydra app the `overrides`. For a config that was
    read from a recorded run, `trust` determines what may be built.
    """

    trial: int
    directory: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    trust: Trust | None = None


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Trials that one worker trains together. Parent to worker.

    With `auto`, the worker chooses how many of them train at once; `slots` share the memory of its device.
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
    """A request to end a trial early: before its next step, or after its epoch. Parent to worker."""

    trial: int
    at_once: bool


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The worker has imported its libraries and waits for its first bundle."""


@dataclass(frozen=True, kw_only=True)
class Sized:
    """The number of a bundle's trials, this one among them, that train at once: more do not pay, or do not fit."""

    trial: int
    members: int
    of: int


@dataclass(frozen=True, kw_only=True)
class Started:
    """A trial's data and model are built; its first step is next.

    `began_s` is its start in seconds since the epoch: when the worker received it, or its turn within its bundle.
    `sources` are the files that the worker had imported by then; None where unknown, as for a job that another launcher
    runs in the parent process.
    """

    trial: int
    about: Mapping[str, Any]
    began_s: float = field(default_factory=time.time)
    sources: tuple[SourceFile, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A trial's metrics after `epoch` epochs; epoch 0 precedes the first step."""

    trial: int
    epoch: int
    metrics: Mapping[str, float]
    time_s: float


class Blame(StrEnum):
    """The cause of a failure, as far as it determines what happens next."""

    CODE = "code"  # any other exception: a retry may succeed
    USER = "user"  # a config error: its message is complete, and a retry cannot succeed
    DATA = "data"  # the same, in the data
    MEMORY = "memory"  # the device ran out of memory
    DISK = "disk"  # the disk is full: not the trial's fault, and the next trials would fail as well


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The reason of a trial's failure: one line, and the traceback behind it."""

    reason: str
    traceback: str | None = None
    blame: Blame = Blame.CODE

    def without_secrets(self) -> Failure:
        """Return the failure with the secrets masked that this process knows."""
        traceback = None if self.traceback is None else without_secrets(self.traceback)
        return replace(self, reason=without_secrets(self.reason), traceback=traceback)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The result of a trial: complete with an outcome, failed with a failure, or pruned.

    `worker` is the process id of its worker and `host` the machine, where known. The trial took `duration_s`, and ended
    at `ended_s`, in seconds since the epoch, which may be earlier than the message is received.
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
