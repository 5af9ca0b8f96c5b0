"""Comparison of the metrics of two runs, epoch by epoch, and the verdict."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from besom.config.objectives import BEST

History = Mapping[int, Mapping[str, float]]

TOLERANCE = 0.01
"""The default tolerance for CLOSE, as a `Difference.share`.

Training amplifies a difference in rounding: a sample near the decision boundary may cross it.
"""


ONCE = (BEST, "test/", "cost/")
"""The prefixes of metrics that are measured once, after the training."""


class Verdict(StrEnum):
    """The result of comparing a rerun with the recorded run."""

    REPRODUCED = "REPRODUCED"
    """Every value is bit-exact."""
    CLOSE = "CLOSE"
    """Some value differs, and all are within the tolerance."""
    DIFFERS = "DIFFERS"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A metric of the rerun that differs from the recorded one."""

    metric: str
    first: int
    """Where it first differs, on the axis of the runs."""
    largest: float
    at: int
    share: float
    """The largest difference as a share of the value, or of 1 where that is smaller."""


def judge(differences: Sequence[Difference], tolerance: float) -> Verdict:
    """Return the verdict on these differences."""
    if not differences:
        return Verdict.REPRODUCED
    return Verdict.CLOSE if all(difference.share <= tolerance for difference in differences) else Verdict.DIFFERS


def compare(recorded: History, again: History, *, without: tuple[str, ...] = ONCE) -> list[Difference]:
    """Return the metrics that differ, except those with a prefix of `without`.

    A value that only one run has is a difference of inf.
    """
    found: list[Difference] = []
    numbers = sorted({*recorded, *again})
    names = sorted({name for history in (recorded, again) for values in history.values() for name in values})
    for name in names:
        if name.startswith(without):
            continue
        gaps = {
            number: gap
            for number in numbers
            if (gap := _gap(recorded.get(number, {}).get(name), again.get(number, {}).get(name)))
        }
        if gaps:
            worst = max(gaps, key=lambda number: gaps[number])
            share = max(
                gap / max(1.0, *(abs(_stored(side[number][name])) for side in (recorded, again)))
                if math.isfinite(gap) else math.inf
                for number, gap in gaps.items()
            )  # fmt: skip
            found.append(Difference(metric=name, first=min(gaps), largest=gaps[worst], at=worst, share=share))
    return found


def _gap(before: float | None, now: float | None) -> float:
    if before is None or now is None:
        return 0.0 if before is now else math.inf
    before, now = _stored(before), _stored(now)
    if before == now or (math.isnan(before) and math.isnan(now)):
        return 0.0
    gap = abs(before - now)
    return math.inf if math.isnan(gap) else gap


def _stored(value: float) -> float:
    """Return the value as MLflow stores it: infinity as the largest number."""
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value
