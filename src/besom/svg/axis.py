"""Axes of plots: their range, and ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_MARGIN = 0.05  # of the span, on both sides
_INTERVALS = 4
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_LARGE = 1e150  # larger values are not shown: differences and ratios must stay finite
_SMALL = 1e-100  # smaller values count as 0


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high`, with (value, label) for each tick."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]

    def share(self, value: float) -> float:
        """Return the position of a value, 0 at `low` and 1 at `high`; NaN for a value that cannot be shown."""
        return (value - self.low) / (self.high - self.low) if abs(value) < _LARGE else math.nan


@dataclass(frozen=True)
class LogAxis(Axis):
    """A logarithmic axis."""

    def share(self, value: float) -> float:
        """Return the position of a value, 0 at `low` and 1 at `high`; NaN for a value that is not positive."""
        if not _SMALL < value < _LARGE:
            return math.nan
        return math.log(value / self.low) / math.log(self.high / self.low)


def axis_of(values: Sequence[float], *, whole: bool = False) -> Axis:
    """Return a linear axis that spans the values, with ticks at round numbers, or at `whole` numbers only.

    Values that are not finite are ignored; without any value the axis spans 0 to 1.
    """
    shown = [value for value in values if abs(value) < _LARGE]
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    if high - low <= max(1e-9 * max(abs(low), abs(high)), _SMALL):  # one value, up to rounding
        beside = 0.05 * abs(low) if abs(low) > _SMALL else 0.05
        low, high = low - beside, high + beside
    margin = _MARGIN * (high - low)
    step = _step((high - low) / _INTERVALS)
    if whole:
        step = max(1.0, math.ceil(step))
    low, high = low - margin, high + margin
    first, last = math.ceil(low / step), math.floor(high / step)
    return Axis(low, high, [(index * step, _label(index * step, step)) for index in range(first, last + 1)])


def log_axis_of(values: Sequence[float]) -> LogAxis:
    """Return a logarithmic axis that spans the values, with ticks at powers of ten, or between two of them.

    Values that are not positive are ignored; without any value the axis spans 0.1 to 10.
    """
    found = [value for value in values if _SMALL < value < _LARGE]
    low, high = (min(found), max(found)) if found else (0.1, 10.0)
    if high < low * 1.001:  # one value, up to rounding
        low, high = low / 2, high * 2
    margin = (high / low) ** _MARGIN
    low, high = low / margin, high * margin
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = max(1, round(len(powers) / (_INTERVALS + 1)))
    finer = ((1,), (1, 2, 5)) if math.log10(high / low) > 1.5 else ((1, 2, 5),)
    for steps in finer:
        ticks = [step * 10.0**power for power in powers if power % every == 0 for step in steps]
        shown = [(tick, f"{tick:g}") for tick in ticks if low <= tick <= high]
        if len(shown) > 1:
            return LogAxis(low, high, shown)
    return LogAxis(low, high, [tick for tick in axis_of(found).ticks if low <= tick[0] <= high])


def _step(least: float) -> float:
    """Return the smallest round number that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return power * next((step for step in _STEPS if step * power >= least), 10.0)


def _label(value: float, step: float) -> str:
    """Return the value with as many digits as distinguish it from its neighbours."""
    last = math.floor(math.log10(step) + 1e-9)  # the place of the last digit: 0 for ones, -1 for tenths
    if not math.isclose(step / 10.0**last, round(step / 10.0**last)):
        last -= 1
    if not value or 1e-3 <= abs(value) < 1e6:
        return f"{value:.{max(0, -last)}f}"
    return f"{value:.{max(1, math.floor(math.log10(abs(value))) - last + 1)}g}"
