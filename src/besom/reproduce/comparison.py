"""Two courses of training beside each other, epoch by epoch, and the verdict."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

History = Mapping[int, Mapping[str, float]]

TOLERANCE = 0.01
"""What counts as close unless told otherwise, as a `Difference.share`.

Where rounding differs, training carries it on: a sample near the border may come to lie on its other side.
"""


class Verdict(StrEnum):
    """What a run that was trained again came to, beside the recorded one."""

    REPRODUCED = "REPRODUCED"
    """Every value is bit-exact."""
    CLOSE = "CLOSE"
    """Some value differs, and all are within the tolerance."""
    DIFFERS = "DIFFERS"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Where a metric of the new run left the recorded one."""

    metric: str
    first_epoch: int
    largest: float
    at_epoch: int
    share: float
    """The largest difference as a share of the value, or of 1 where that is smaller."""


def judge(differences: Sequence[Difference], tolerance: float) -> Verdict:
    """Return the verdict on what differs."""
    if not differences:
        return Verdict.REPRODUCED
    return Verdict.CLOSE if all(one.share <= tolerance for one in differences) else Verdict.DIFFERS


def compare(recorded: History, again: History) -> list[Difference]:
    """Return where the metrics differ, metric by metric; a value that only one side has is a difference of inf.

    Metrics that are measured once, after the last epoch (`best/…`, `test/…`, `cost/…`), are left out.
    """
    found: list[Difference] = []
    epochs = sorted({*recorded, *again})
    names = sorted({name for history in (recorded, again) for values in history.values() for name in values})
    for name in names:
        if name.startswith(ONCE):
            continue
        gaps = {
            epoch: gap
            for epoch in epochs
            if (gap := _gap(recorded.get(epoch, {}).get(name), again.get(epoch, {}).get(name)))
        }
        if gaps:
            worst = max(gaps, key=lambda epoch: gaps[epoch])
            share = max(
                gap / max(1.0, *(abs(_stored(side[epoch][name])) for side in (recorded, again)))
                if math.isfinite(gap) else math.inf
                for epoch, gap in gaps.items()
            )  # fmt: skip
            found.append(
                Difference(metric=name, first_epoch=min(gaps), largest=gaps[worst], at_epoch=worst, share=share)
            )
    return found


ONCE = ("best/", "test/", "cost/")
"""How the names of metrics begin that are measured once."""


def _gap(before: float | None, now: float | None) -> float:
    if before is None or now is None:
        return 0.0 if before is now else math.inf
    before, now = _stored(before), _stored(now)
    if before == now or (math.isnan(before) and math.isnan(now)):
        return 0.0
    gap = abs(before - now)
    return math.inf if math.isnan(gap) else gap


def _stored(value: float) -> float:
    """The value as MLflow stores it: infinity is the largest number there."""
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value
