"""The common parts of a report's plots: the picture, the frame, the looks of a trial.

The page's style sheet colors the marks by their CSS classes, in light and dark mode; its script shows the trial in an
element's `data-t`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from besom.config.objectives import Objective
from besom.reports.format import short
from besom.reports.read.report import TrialPoint
from besom.svg.axis import Axis
from besom.svg.marks import escaped, path
from besom.svg.panel import Panel
from besom.svg.ticks import grid, x_labels, y_labels


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot with its title: SVG elements on `width` by `height` units.

    `description` is read out instead of the picture; `note` explains how to read it.
    """

    title: str
    parts: Sequence[str]
    width: float = 900
    height: float
    description: str
    note: str = ""

    @property
    def wide(self) -> bool:
        """True if it takes the whole width of the page."""
        return self.width >= 900

    @property
    def svg(self) -> str:
        """The picture as an SVG element."""
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escaped(self.title)}" '
            f'style="--w:{self.width:g}px"><desc>{escaped(self.description)}</desc>{"".join(self.parts)}</svg>'
        )


def frame(panel: Panel, across: Axis, up: Axis | None = None, *, x_label: str = "", y_label: str = "") -> str:
    """Return grid lines, tick labels and axis labels, without those of `up` if it is None."""
    lines = path(grid(panel, across, up), class_="grid")
    return lines + x_labels(panel, across, x_label) + (y_labels(panel, up, y_label) if up else "")


def kind(point: TrialPoint, *, top: bool) -> str:
    """Return the CSS class of a trial's mark; `top` marks one of the best."""
    if not point.complete:
        return point.state.name.lower()
    return "top" if top else "complete" if point.feasible else "infeasible"


def ranks(values: Mapping[int, float], objective: Objective) -> dict[int, float]:
    """Return the rank of each trial's value: 0 for the worst, 1 for the best, equal values alike."""
    ordered = sorted(set(values.values()), reverse=objective.direction == "minimize")
    places = {value: place / max(1, len(ordered) - 1) for place, value in enumerate(ordered)}
    return {trial: places[value] for trial, value in values.items()}


def shade(rank: float) -> str:
    """Return the style of a mark with that rank, from which the page mixes its color."""
    return f"--v:{100 * rank:.0f}%"


def beyond(values: Sequence[float], axis: Axis) -> str:
    """Return a note on the values outside the axis, which are drawn at its end."""
    outside = [value for value in values if not axis.low <= value <= axis.high]
    if not outside:
        return ""
    worst = max(outside, key=lambda value: abs(value - axis.low))
    many = f"{len(outside)} trials lie" if len(outside) > 1 else "1 trial lies"
    return f"{many} beyond the frame, at {'up to ' * (len(outside) > 1)}{short(worst)}, drawn at its edge."
