"""A trial on its way: one attempt at its parameters, and whether it must have its device to itself."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from besom.config.checks import folds_of
from besom.sweep.study.config import origin
from besom.sweep.study.study import Asked
from besom.sweep.trial import family
from besom.tracking.recorder.recorder import RunCard
from besom.workers.devices import Slot


class Verdict(Enum):
    """What the parent decided of a trial that still runs."""

    PRUNED = "pruned"
    INTERRUPTED = "interrupted"


@dataclass(eq=False, kw_only=True)
class Attempt:
    """One attempt at a trial: `number` is 0 for the first.

    `solo` says that it must not be bundled, `alone` that nothing else may use its device meanwhile; `company` is what
    others must have in common with it to share its bundle, and `bundled` how many they were. It ran from `began_s`
    to `ended_s`, in seconds since the epoch, as its worker says.
    """

    asked: Asked
    number: int = 0
    alone: bool = False
    unbundled: bool = False
    bundle_key: str | None = None
    bundled: int = 1
    slot: Slot | None = None
    directory: Path | None = None
    card: RunCard | None = None
    recorded: bool = False
    taken_up_s: float | None = None
    began_s: float | None = None
    ended_s: float | None = None
    verdict: Verdict | None = None
    epoch: int = 0
    history: dict[int, Mapping[str, float]] = field(default_factory=dict)
    worker: int | None = None
    host: str | None = None

    @property
    def trial(self) -> int:
        """The trial's number in its study."""
        return self.asked.number

    @property
    def retries(self) -> int:
        """How often it was tried again for an error; once more for others, or for want of memory, does not count."""
        return self.number - self.alone - self.unbundled

    @property
    def last_epoch(self) -> int | None:
        """The epoch with which it is complete, where that is known: from there on nothing is left to save."""
        folds = folds_of(self.card.config) if self.card else None
        if folds is not None:
            return folds
        trainer = self.card.config.get("trainer") if self.card else None
        return trainer.get("max_epochs") if isinstance(trainer, Mapping) else None

    @property
    def has_everybodys_data(self) -> bool:
        """Whether the data are the same for every trial, so that what is wrong with them would fail all the others."""
        groups = {re.split(r"[.@]", key.lstrip("+"))[0] for key in self.asked.params}
        return not groups & {"data", "experiment"}

    def is_overdue(self, limit_s: float, *, ready: bool) -> bool:
        """Whether it takes longer than it may, from the moment on when its worker is `ready`."""
        if self.taken_up_s is None and ready:
            self.taken_up_s = time.monotonic()
        return self.taken_up_s is not None and time.monotonic() - self.taken_up_s > limit_s

    def about(self, duration_s: float | None, **more: Any) -> dict[str, Any]:
        """What the report tells of its trial, if it ends with this attempt."""
        config = self.card.config if self.card else {}
        about = {"family": family(config), "duration_s": duration_s, "epochs": self.epoch, **more}
        about |= {} if self.slot is None else {"slot": self.slot.index}
        about |= {} if self.worker is None else {"worker": self.worker}
        about |= {} if self.host is None else {"host": self.host}
        about |= {} if self.card is None else origin(self.card.tags)
        return about | ({"attempts": self.number + 1} if self.number else {})

    def again(self, *, alone: bool = False, unbundled: bool = False) -> Attempt:
        """The next attempt at the same parameters; one that had to be alone, or unbundled, stays so."""
        return Attempt(
            asked=self.asked,
            number=self.number + 1,
            alone=alone or self.alone,
            unbundled=unbundled or self.unbundled,
            slot=self.slot,
        )

    def may_take(self, slot: Slot, running: Iterable[Attempt]) -> bool:
        """Whether it may start in an idle slot, beside what is running."""
        neighbours = [other for other in running if other.slot is not None and other.slot.shares(slot)]
        if any(other.alone for other in neighbours):
            return False
        return not (self.alone and neighbours)
