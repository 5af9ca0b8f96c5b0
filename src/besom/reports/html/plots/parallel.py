"""Parallel coordinates: a line per trial through the values of its parameters to the objective."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from besom.config.objectives import Objective
from besom.reports.html.plots.canvas import LETTER, Picture, clipped, drawing, ranks, shade, text
from besom.reports.read.dimensions import Dimension, objective_axis, within
from besom.reports.read.report import Report, TrialPoint, thinned
from besom.svg.axis import Axis
from besom.svg.panel import Panel

_AXES = 8
_LINES = 500
_TICKS = 9  # of choices; with more, every second or third is labelled

_PANEL = Panel(left=60, top=44, width=760, height=270)


def parallel(report: Report) -> Picture | None:
    """Draw the complete trials, the best on top; None with fewer than two, or without parameters.

    Axes of parameters that not every trial has come first: the line of a trial without them starts further right, and
    every line reaches the objective.
    """
    points = [point for point in report.trials if point.complete]
    shown = sorted(report.important[:_AXES], key=lambda one: one.share)
    if len(points) < 2 or not shown:
        return None
    objective = report.objectives[0]
    values = {point.number: point.values[0] for point in points}
    up = objective_axis(list(values.values()), maximize=objective.direction == "maximize")
    columns = [_PANEL.left + _PANEL.width * place / len(shown) for place in range(len(shown) + 1)]
    goodness = ranks(values, objective)
    points.sort(key=lambda point: goodness[point.number])
    drawn = [*thinned(points[: -_LINES // 2], _LINES // 2), *points[-_LINES // 2 :]] if len(points) > _LINES else points
    parts = [_trial(point, shown, columns, up, goodness[point.number]) for point in drawn]
    for one, x in zip(shown, columns, strict=False):
        parts.append(_axis(one.axis, x, one.key, places=len(shown)))
    parts.append(_axis(up, columns[-1], objective.name, places=len(shown), last=True))
    return Picture(
        title=f"parameters and {objective.name}",
        svg=drawing(
            900, 330, "".join(parts), title="parallel coordinates",
            description=f"{len(drawn)} trials over {', '.join(one.key for one in shown)} and {objective.name}",
        ),
        note=_note(report, objective, len(points), len(drawn)),
    )  # fmt: skip


def _note(report: Report, objective: Objective, complete: int, drawn: int) -> str:
    told = [
        f"The stronger a color, the better in {objective.name}. Drag along an axis to choose trials, click to let go."
    ]
    if any(one.share < 1 for one in report.important[:_AXES]):
        told.append("A line begins where its trial's parameters do: those on its left it did not have.")
    if drawn < complete:
        told.append(f"{drawn} of {complete} complete trials are drawn, the best among them.")
    if len(report.important) > _AXES:
        told.append(f"The {_AXES} parameters that mattered most, of {len(report.important)}.")
    return " ".join(told)


def _trial(point: TrialPoint, shown: Sequence[Dimension], columns: Sequence[float], up: Axis, rank: float) -> str:
    heights = [
        _PANEL.y(one.axis, one.place(point.params[one.key])) if one.key in point.params else None for one in shown
    ]
    heights.append(_PANEL.y(up, within(up, point.values[0])))
    known = [(x, y) for x, y in zip(columns, heights, strict=True) if y is not None]
    path = f"M{known[0][0]:.1f} {known[0][1]:.1f}"
    gaps = {x for (x, y), (_, after) in pairwise(zip(columns, heights, strict=True)) if y is not None and after is None}
    for (before, _), (x, y) in pairwise(known):
        path += f"{'M' if before in gaps else 'L'}{x:.1f} {y:.1f}"
    places = ",".join("" if y is None else f"{y:.0f}" for y in heights)
    return f'<path class="pl" data-t="{point.number}" data-y="{places}" style="{shade(rank)}" d="{path}"/>'


def _axis(axis: Axis, x: float, label: str, *, places: int, last: bool = False) -> str:
    parts = [
        f'<path class="rule" d="M{x:.1f} {_PANEL.top}V{_PANEL.bottom}"/>',
        f'<rect class="brush" x="{x - 9:.1f}" y="{_PANEL.top - 4}" width="18" height="{_PANEL.height + 8}"/>',
        text(x, 18, clipped(label, int(_PANEL.width / places / 5.6)), kind="axis name"),
    ]
    every = -(-len(axis.ticks) // _TICKS)
    for value, words in axis.ticks[::every]:
        y = _PANEL.y(axis, value)
        parts.append(
            text(x + 7, y + 4, clipped(words, int(_PANEL.width / places / LETTER) - 2), kind="on-line", anchor="start")
        )
    return "".join(parts)
