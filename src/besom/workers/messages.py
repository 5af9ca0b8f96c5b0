"""What the parent and a worker say to each other over their pipe.

Every message is a frozen record of plain values, so that neither side needs the other's libraries: a worker
knows neither Optuna nor MLflow, the parent needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class State(StrEnum):
    """How a trial ended, by Optuna's names."""

    COMPLETE = "COMPLETE"
    FAIL = "FAIL"


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One trial to train: its number, its resolved config, and an empty folder for what it leaves behind."""

    trial: int
    config: Mapping[str, Any]
    directory: Path


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Trials that one worker trains together. Parent to worker."""

    assignments: tuple[Assignment, ...]

    @property
    def trials(self) -> tuple[int, ...]:
        """The numbers of the trials, in order."""
        return tuple(assignment.trial for assignment in self.assignments)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The worker has imported what it needs and waits for its first bundle."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """A trial's data and model are built; its first step is next."""

    trial: int
    about: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A trial's metrics after `epoch` epochs; epoch 0 is before the first step."""

    trial: int
    epoch: int
    metrics: Mapping[str, float]
    time_s: float


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A trial is over.

    `value` is the objective at `best_epoch`; `summary` holds the metrics that are measured once, such as those of
    the test part. A trial that failed has a `reason` of one line; `user_error` says that the message is
    complete by itself, so that nobody needs the traceback; `data_error` that it is about the data.
    """

    trial: int
    state: State
    duration_s: float
    value: float | None = None
    best_epoch: int | None = None
    summary: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    traceback: str | None = None
    user_error: bool = False
    data_error: bool = False


Message = Ready | Started | Reported | Finished
