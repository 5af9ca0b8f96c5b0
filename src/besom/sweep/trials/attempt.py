"""One attempt at a trial: its parameters, its slot, and whether it needs its device exclusively."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from besom.config.checks import folds_of
from besom.config.units import Unit
from besom.sweep.fidelity import PrunerCount
from besom.sweep.study.book import Asked
from besom.sweep.study.config import origin
from besom.sweep.trials.trial import family
from besom.tracking.recorder.recorder import RunCard
from besom.workers.devices import Slot
from besom.workers.messages import Moment, State, TrialResult


class Verdict(Enum):
    """The parent's decision about a trial that is still running."""

    PRUNED = "pruned"
    INTERRUPTED = "interrupted"


@dataclass(eq=False, kw_only=True)
class Attempt:
    """One attempt at a trial: `number` is 0 for the first.

    An `unbundled` attempt must not share a bundle, an `exclusive` one must not share its device. Attempts with the same
    `bundle_key` may share a bundle; `bundled` is the size of the bundle. `began_s` is in seconds since the epoch, as
    its worker reports it. `folder` is that of another app's job. `followed` is true once the objective was reported.
    `reached` is the number of its last report on the axis of its run, `history` the metrics by
    step.
    """

    asked: Asked
    number: int = 0
    exclusive: bool = False
    unbundled: bool = False
    bundle_key: str | None = None
    bundled: int = 1
    slot: Slot | None = None
    directory: Path | None = None
    card: RunCard | None = None
    recorded: bool = False
    taken_up_s: float | None = None
    began_s: float | None = None
    verdict: Verdict | None = None
    reached: int = 0
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    count: PrunerCount | None = None
    followed: bool = False
    folder: str | None = None

    @property
    def trial(self) -> int:
        """The trial's number in its study."""
        return self.asked.number

    @property
    def retries(self) -> int:
        """The number of retries after the trial's own errors, without those after a failed bundle or out of memory."""
        return self.number - self.exclusive - self.unbundled

    @property
    def axis(self) -> Unit:
        """The axis by which its metrics are recorded."""
        return self.card.axis if self.card else Unit.EPOCH

    def is_last(self, moment: Moment) -> bool:
        """Return whether a report is known to be the last one: pruning there would save nothing."""
        config = self.card.config if self.card else {}
        folds = folds_of(config)
        if folds is not None:
            return moment.epoch == folds
        trainer = config.get("trainer")
        if not isinstance(trainer, Mapping):
            return False
        epoch = moment.epoch or moment.step  # another app has steps only
        return (epoch == trainer.get("max_epochs") and not moment.in_epoch) or moment.step == trainer.get("max_steps")

    def measured_at(self, step: int | None) -> dict[str, float]:
        """Return the metrics as known at a step, by default the last one.

        A metric without a value there has the last one before it, or else the first one after it.
        """
        steps = sorted(self.history)
        last = step if step is not None else max(steps, default=0)
        known: dict[str, float] = {}
        for each in [*reversed([each for each in steps if each > last]), *[each for each in steps if each <= last]]:
            known |= self.history[each]
        return known

    def is_overdue(self, limit_s: float, *, ready: bool) -> bool:
        """Return whether it has run for longer than `limit_s`, counted from the moment when its worker is `ready`."""
        if self.taken_up_s is None and ready:
            self.taken_up_s = time.monotonic()
        return self.taken_up_s is not None and time.monotonic() - self.taken_up_s > limit_s

    def about(self, result: TrialResult) -> dict[str, Any]:
        """Return the facts about its trial for the report, if the trial ends with this attempt."""
        config = self.card.config if self.card else {}
        about = {"family": family(config), "duration_s": result.duration_s}
        about |= {f"{self.axis}s": self.reached}
        about |= {"best_epoch": result.best_epoch} if result.state is State.COMPLETE else {}
        about |= {} if result.reason is None else {"reason": result.reason}
        about |= {} if self.slot is None else {"slot": self.slot.index}
        about |= {} if result.worker is None else {"worker": result.worker}
        about |= {} if result.host is None else {"host": result.host}
        about |= {} if self.card is None else origin(self.card.tags)
        return about | ({"attempts": self.number + 1} if self.number else {})

    def again(self, *, exclusive: bool = False, unbundled: bool = False) -> Attempt:
        """Return the next attempt at the same parameters; it keeps `exclusive` and `unbundled`."""
        return Attempt(
            asked=self.asked,
            number=self.number + 1,
            exclusive=exclusive or self.exclusive,
            unbundled=unbundled or self.unbundled,
            slot=self.slot,
        )

    def may_take(self, slot: Slot, running: Iterable[Attempt]) -> bool:
        """Return whether it may start in an idle slot beside the running attempts."""
        neighbours = [other for other in running if other.slot is not None and other.slot.shares(slot)]
        if any(other.exclusive for other in neighbours):
            return False
        return not (self.exclusive and neighbours)
