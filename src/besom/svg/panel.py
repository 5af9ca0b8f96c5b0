"""What every picture of ours is put together from: places in a panel, lines with gaps, text that is safe to show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from besom.svg.axis import Axis

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Where a picture's marks may be, in its units from the upper left."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.top + self.height

    def x(self, axis: Axis, value: float) -> float:
        """Where a value lies from left to right."""
        return self.left + self.width * axis.share(value)

    def y(self, axis: Axis, value: float) -> float:
        """Where a value lies, the higher the farther up."""
        return self.bottom - self.height * axis.share(value)


def line(points: Points) -> str:
    """A path through the points, with a gap where one is missing: training that diverged has no place to be."""
    return "".join(_steps(points))


def _steps(points: Points) -> Iterator[str]:
    step = "M"
    for x, y in points:
        if math.isfinite(y):
            yield f"{step}{x:.2f} {y:.2f}"
            step = "L"
        else:
            step = "M"


def shown(text: str) -> str:
    """A text as XML may hold it."""
    return escape("".join(sign if sign.isprintable() else "�" for sign in text))
