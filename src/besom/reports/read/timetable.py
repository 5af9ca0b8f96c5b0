"""The times of trials by slot, and the utilisation of the slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from optuna.trial import FrozenTrial, TrialState

from besom.reports.read.summary import about
from besom.reports.times import moment

_PAUSE = timedelta(seconds=60)
"""The minimum time without a running trial that counts as a pause between sweeps."""


@dataclass(frozen=True, kw_only=True)
class Stint:
    """The last attempt of a trial, from `began_s` to `ended_s` in seconds of sweeping, without pauses.

    `member` is the trial's row among those that the slot trained at the same time.
    """

    trial: int
    state: TrialState
    slot: int
    began_s: float
    ended_s: float
    member: int = 0


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """The stints of a study; `pauses_s` are the times of pauses between two sweeps.

    Trials without a slot are left out: those of another program, or of another app's launcher.
    """

    stints: tuple[Stint, ...] = ()
    pauses_s: tuple[float, ...] = ()
    swept_s: float = 0.0
    began: datetime | None = None
    ended: datetime | None = None

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots that trained any trial."""
        return tuple(sorted({stint.slot for stint in self.stints}))

    def busy(self, slot: int) -> float:
        """Return the share of the time in which a slot trained at least one trial, 0 to 1."""
        spans = sorted((one.began_s, one.ended_s) for one in self.stints if one.slot == slot)
        total = reached = 0.0
        for began, ended in spans:
            total += max(0.0, ended - max(began, reached))
            reached = max(reached, ended)
        return total / self.swept_s if self.swept_s else 0.0

    @property
    def utilisation(self) -> float | None:
        """The mean of `busy` over the slots, 0 to 1; None if unknown."""
        return sum(map(self.busy, self.slots)) / len(self.slots) if self.slots and self.swept_s else None

    @property
    def per_minute(self) -> float | None:
        """The number of trials per minute of sweeping."""
        return 60 * len(self.stints) / self.swept_s if self.swept_s else None


def timetable(trials: Sequence[FrozenTrial]) -> Timetable:
    """Read the times of trials; a trial's start is its end minus its duration."""
    known: list[tuple[datetime, datetime, FrozenTrial]] = []
    for trial in trials:
        duration_s, slot = about(trial).get("duration_s"), about(trial).get("slot")
        if trial.datetime_complete and isinstance(duration_s, int | float) and isinstance(slot, int):
            ended = moment(trial.datetime_complete)
            known.append((ended - timedelta(seconds=duration_s), ended, trial))
    moments = [moment(one) for trial in trials for one in (trial.datetime_start, trial.datetime_complete) if one]
    if not moments:
        return Timetable()
    pauses = _pauses([(began, ended) for began, ended, _ in known])
    first = min((began for began, _, _ in known), default=min(moments))

    def swept(until: datetime) -> float:
        gone = sum(((min(until, end) - start) for start, end in pauses if start < until), timedelta())
        return (until - first - gone).total_seconds()

    last = max((ended for _, ended, _ in known), default=max(moments))
    return Timetable(
        stints=_stints([(swept(began), swept(ended), trial) for began, ended, trial in known]),
        pauses_s=tuple(swept(start) for start, _ in pauses),
        swept_s=swept(last),
        began=min(first, *moments),
        ended=max(moments),
    )


def _pauses(spans: Sequence[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Return the gaps between the spans that are longer than _PAUSE."""
    reached: list[tuple[datetime, datetime]] = []
    for began, ended in sorted(spans):
        if reached and began <= reached[-1][1] + _PAUSE:
            reached[-1] = reached[-1][0], max(reached[-1][1], ended)
        else:
            reached.append((began, ended))
    return [(before[1], after[0]) for before, after in pairwise(reached)]


def _stints(spans: Sequence[tuple[float, float, FrozenTrial]]) -> tuple[Stint, ...]:
    """Assign each span the first free row of its slot, because the members of a bundle share a slot."""
    free: dict[int, list[float]] = {}
    found = []
    for began_s, ended_s, trial in sorted(spans, key=lambda span: (span[0], span[2].number)):
        slot = int(about(trial)["slot"])
        members = free.setdefault(slot, [])
        member = next((index for index, until in enumerate(members) if until <= began_s + 1e-3), len(members))
        members[member : member + 1] = [ended_s]
        found.append(
            Stint(trial=trial.number, state=trial.state, slot=slot, began_s=began_s, ended_s=ended_s, member=member)
        )
    return tuple(found)
