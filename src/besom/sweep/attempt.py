"""A trial on its way: one attempt at its parameters, and whether it must have its device to itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from besom.sweep.study import Asked
from besom.tracking.recorder import RunCard
from besom.workers.devices import Slot


class Verdict(Enum):
    """What the parent decided of a trial that still runs."""

    PRUNED = "pruned"
    INTERRUPTED = "interrupted"


@dataclass(eq=False, kw_only=True)
class Attempt:
    """One attempt at a trial: `number` is 0 for the first; `alone` says that nothing else may use its device."""

    asked: Asked
    number: int = 0
    alone: bool = False
    slot: Slot | None = None
    directory: Path | None = None
    card: RunCard | None = None
    recorded: bool = False
    began_s: float | None = None
    verdict: Verdict | None = None
    epoch: int = 0
    history: dict[int, Mapping[str, float]] = field(default_factory=dict)

    @property
    def trial(self) -> int:
        """The trial's number in its study."""
        return self.asked.number

    def again(self, *, alone: bool = False) -> Attempt:
        """The next attempt at the same parameters."""
        return Attempt(asked=self.asked, number=self.number + 1, alone=alone, slot=self.slot)

    def may_take(self, slot: Slot, running: Iterable[Attempt]) -> bool:
        """Whether it may start in an idle slot, beside what is running."""
        neighbours = [other for other in running if other.slot is not None and other.slot.shares(slot)]
        if any(other.alone for other in neighbours):
            return False
        return not (self.alone and neighbours)
