"""Panels: the plot area of a figure, and the coordinates of values in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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

    def points(self, across: Axis, up: Axis, values: Iterable[tuple[float, float]]) -> Points:
        """Return the coordinates of (value across, value up) for each pair."""
        return [(self.x(across, x), self.y(up, y)) for x, y in values]
