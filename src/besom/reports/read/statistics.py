"""Statistics over repeated runs: mean with confidence interval, paired t-test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The mean of `count` values, their standard deviation (over n - 1), and the mean's 95 % interval.

    The interval is Student's, mean ± t·sd/√n, over seeds on the same data. A single value has neither deviation nor
    interval.
    """

    mean: float
    count: int
    deviation: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Estimate from one value or more."""
        from scipy.special import stdtrit  # takes a third of a second, which only finalists need

        mean, count = fmean(values), len(values)
        if count == 1:
            return cls(mean=mean, count=count)
        deviation = stdev(values)
        half = float(stdtrit(count - 1, (1 + _LEVEL) / 2)) * deviation / math.sqrt(count)
        return cls(mean=mean, count=count, deviation=deviation, low=mean - half, high=mean + half)


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """A paired t-test of `count` pairs: the mean difference with its 95 % interval, and the two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float
    count: int

    name = "paired t-test"

    @property
    def differs(self) -> bool:
        """True if the difference is significant at the level of 5 %."""
        return self.p_value < 1 - _LEVEL

    @classmethod
    def of(cls, ones: Sequence[float], others: Sequence[float]) -> PairedTest | None:
        """Test whether `ones` differ from `others`, pair by pair; None with fewer than two pairs.

        Raises ValueError if their lengths differ. Student, Biometrika 6 (1908).
        """
        from scipy.special import stdtr

        if len(ones) < 2:
            return None
        gap = Estimate.of([one - other for one, other in zip(ones, others, strict=True)])
        assert gap.deviation is not None
        assert gap.low is not None
        assert gap.high is not None
        if gap.deviation == 0:
            p_value = 0.0 if gap.mean else 1.0
        else:
            t = gap.mean / (gap.deviation / math.sqrt(gap.count))
            p_value = 2 * float(stdtr(gap.count - 1, -abs(t)))
        return cls(difference=gap.mean, low=gap.low, high=gap.high, p_value=p_value, count=gap.count)
