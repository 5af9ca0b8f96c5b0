"""The finalists' values in the sweep, and their means with fresh seeds with 95 % intervals."""

from __future__ import annotations

from besom.reports.html.plots.canvas import LETTER, Picture, clipped, drawing, text
from besom.reports.read.finalists import Finalists, test_metric
from besom.reports.read.statistics import Estimate
from besom.svg.axis import Axis, axis_of
from besom.svg.panel import Panel

_ROW = 46
_LETTERS = 40  # of a family


def intervals(found: Finalists) -> Picture:
    """Draw each finalist's means on validation and test with their 95 % intervals, and the sweep's value."""
    names = [f"trial {one.row.trial}  {clipped(one.row.family, _LETTERS)}" for one in found.finalists]
    values = [one.row.value for one in found.finalists]
    for one in found.finalists:
        for estimate in (one.validation, one.test):
            if estimate is not None:
                known = (estimate.mean, estimate.low, estimate.high)
                values += [value for value in known if value is not None]
    axis = axis_of(values)
    left = 16 + LETTER * max(map(len, names))
    panel = Panel(left=left, top=8, width=900 - left - 24, height=_ROW * len(names))
    parts = []
    for value, words in axis.ticks:
        x = panel.x(axis, value)
        parts.append(f'<path class="grid" d="M{x:.1f} {panel.top}V{panel.bottom}"/>{text(x, panel.bottom + 15, words)}')
    for row, (name, one) in enumerate(zip(names, found.finalists, strict=True)):
        y = panel.top + _ROW * (row + 0.5)
        parts.append(text(left - 10, y + 4, name, anchor="end"))
        parts.append(_estimate(panel, axis, one.validation, y - 9, "validation", one.row.trial))
        parts.append(_estimate(panel, axis, one.test, y + 9, "test", one.row.trial))
        x = panel.x(axis, one.row.value)
        parts.append(f'<path class="sweep" data-t="{one.row.trial}" d="M{x:.1f} {y - 14:.1f}l5 5l-5 5l-5 -5z"/>')
    objective = found.objective.name
    title = f"{objective} and {test_metric(found.objective)} with fresh seeds"
    return Picture(
        title=title,
        svg=drawing(
            900, panel.bottom + 24, "".join(parts), title=title,
            description=f"{len(names)} finalists: means with 95 % intervals, on validation and test",
        ),
        note=f"Upper line: {objective} on validation, lower line: {test_metric(found.objective)}; a dot for the mean, "
        "Student's 95 % interval around it. Diamond: what the sweep measured.",
    )  # fmt: skip


def _estimate(panel: Panel, axis: Axis, estimate: Estimate | None, y: float, kind: str, trial: int) -> str:
    if estimate is None:
        return ""
    x = panel.x(axis, estimate.mean)
    marks = f'<circle class="{kind}" data-t="{trial}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    if estimate.low is None or estimate.high is None:
        return marks
    low, high = panel.x(axis, estimate.low), panel.x(axis, estimate.high)
    return (
        f'<path class="interval {kind}" data-t="{trial}" d="M{low:.1f} {y - 4:.1f}v8m0 -4H{high:.1f}m0 -4v8"/>{marks}'
    )
