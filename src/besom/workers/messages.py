"""The messages between the parent process and a worker.

Every message is a frozen dataclass of plain values, so that neither side needs the other's libraries: a worker
imports neither Optuna nor MLflow, the parent process does not import torch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from besom.config.extras.logged import Log
from besom.config.units import Unit
from besom.system.source_file import SourceFile
from besom.training.progress import Moment as Moment
from besom.training.result import Blame as Blame
from besom.training.result import Failure as Failure
from besom.training.result import State as State
from besom.training.result import TrialResult as TrialResult

if TYPE_CHECKING:
    from besom.config.targets.trust import Trust


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A trial to run: its number, its config or overrides, and an empty folder for its files.

    Besom's own training uses the resolved `config`, a job of another Hydra app the `overrides` and the environment
    `variables`. Of the config, the user has set `model_keys` for the model to read. For a config that was read from a
    recorded run, `trust` determines what may be built.
    """

    trial: int
    directory: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    model_keys: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
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
    """The metrics of one validation of a trial, or of an epoch that has ended."""

    trial: int
    moment: Moment
    metrics: Mapping[str, float]
    time_s: float

    def at(self, axis: Unit) -> int:
        """Return the number of the report on the axis of its run."""
        return self.moment.step if axis is Unit.STEP else self.moment.epoch


@dataclass(frozen=True, kw_only=True)
class Logged:
    """A trial's logger has received this, before what the next message reports."""

    trial: int
    log: Log


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A trial has ended in its worker, with this result.

    `left` is what it left in the worker's process that cannot be put back: a new process takes its place.
    """

    trial: int
    result: TrialResult
    left: str | None = None


Message = Ready | Sized | Started | Reported | Logged | Finished
