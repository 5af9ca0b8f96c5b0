"""The basics of every SVG plot: coordinates in a panel, lines with gaps, escaped text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from besom.svg.axis import Axis

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The plot area of a figure, in the figure's units from the upper left."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The x coordinate of the right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """The y coordinate of the lower edge."""
        return self.top + self.height

    def x(self, axis: Axis, value: float) -> float:
        """Return the x coordinate of a value."""
        return self.left + self.width * axis.share(value)

    def y(self, axis: Axis, value: float) -> float:
        """Return the y coordinate of a value; larger values are further up."""
        return self.bottom - self.height * axis.share(value)


def line(points: Points) -> str:
    """Return an SVG path through the points, with a gap at points that are not finite, as of diverged training."""
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
    """Return a text escaped for XML, with unprintable characters replaced."""
    return escape("".join(sign if sign.isprintable() else "�" for sign in text))
