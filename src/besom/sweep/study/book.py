"""The interface of a study to the loop that runs its trials."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from besom.sweep.space.search_space import Params
from besom.workers.messages import TrialResult


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A trial that a study was asked for: its number, and its parameters."""

    number: int
    params: Params

    @property
    def name(self) -> str:
        """The name of the trial in messages."""
        return f"trial {self.number}"

    @property
    def has_everybodys_data(self) -> bool:
        """True if every trial uses the same data, so that an error in them would fail all trials."""
        groups = {re.split(r"[.@]", key.lstrip("+"))[0] for key in self.params}
        return not groups & {"data", "experiment"}


class Book(ABC):
    """Draws the trials of a study and takes their results, by their numbers.

    `study` has the attributes that are stored with the study. A book that does not override the other methods neither
    prunes nor runs out of patience.
    """

    study: optuna.Study

    @property
    @abstractmethod
    def total(self) -> int | None:
        """The number of trials of the study when it is complete; None for no end."""

    @property
    @abstractmethod
    def done(self) -> int:
        """The number of finished trials: complete, pruned or failed."""

    @property
    def ran_out_of_patience(self) -> bool:
        """True if no further trial is worth its time."""
        return False

    @abstractmethod
    def ask(self) -> Asked:
        """Draw the next trial."""

    def write_asked(self, number: int, overrides: Sequence[str]) -> None:  # noqa: B027  # a default
        """Write a drawn trial to the storage, with the Hydra overrides of its parameters."""

    def report(self, number: int, step: int, value: float) -> bool:
        """Report the objective's value of a trial at a step; return whether the trial should be pruned."""
        return False

    def forget(self, number: int) -> None:  # noqa: B027  # a default
        """Remove the reported values of a trial before its next attempt."""

    @abstractmethod
    def tell(self, number: int, result: TrialResult, about: Mapping[str, Any]) -> None:
        """Take the result of a trial, and facts about it for the report; `settle` writes them to the storage."""

    @abstractmethod
    def settle(self, number: int, *, kept: bool = False) -> None:
        """Write the result of a trial, now that its run is recorded, or `kept` as a file for an unreachable server."""

    @abstractmethod
    def set_user_attr(self, key: str, value: Any) -> None:
        """Set an attribute of the study."""
