"""The finalists' values in the sweep, and their means with fresh seeds with 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator

from besom.reports.html.plots.canvas import Picture, frame
from besom.reports.read.finalists import Finalists
from besom.reports.read.report import Report
from besom.reports.read.statistics import Estimate
from besom.svg.axis import Axis, axis_of
from besom.svg.marks import LETTER, circle, clipped, path, text
from besom.svg.panel import Panel

_ROW = 46
_LETTERS = 40  # of a family


def intervals(report: Report) -> list[Picture]:
    """Draw each finalist's means on validation and test with their 95 % intervals, and the sweep's value."""
    return [_draw(data) for data in _read(report)]


def _read(report: Report) -> Iterator[Finalists]:
    if report.finalists is not None:
        yield report.finalists


def _draw(data: Finalists) -> Picture:
    validation, test, tested = data.objective.name, data.objective.test_metric, data.are_tested
    names = [f"trial {one.row.trial}  {clipped(one.row.family, _LETTERS)}" for one in data.finalists]
    axis = axis_of(_values(data))
    left = 16 + LETTER * max(map(len, names))
    panel = Panel(left=left, top=8, width=900 - left - 24, height=_ROW * len(names))
    parts = [frame(panel, axis)]
    for row, (name, one) in enumerate(zip(names, data.finalists, strict=True)):
        x, y = panel.x(axis, one.row.value), panel.top + _ROW * (row + 0.5)
        parts += [
            text(left - 10, y + 4, name, anchor="end"),
            _estimate(panel, axis, one.validation, y - 9, "validation", one.row.trial),
            _estimate(panel, axis, one.test, y + 9, "test", one.row.trial),
            path(f"M{x:.1f} {y - 14:.1f}l5 5l-5 5l-5 -5z", class_="sweep", data_t=one.row.trial),
        ]
    return Picture(
        title=f"{validation}{f' and {test}' * tested} with fresh seeds",
        height=panel.bottom + 24,
        parts=parts,
        description=f"{len(names)} finalists: means with 95 % intervals{', on validation and test' * tested}",
        note=(f"Upper line: {validation} on validation, lower line: {test}; a" if tested else "A")
        + " dot for the mean, Student's 95 % interval around it. Diamond: what the sweep measured.",
    )


def _values(data: Finalists) -> list[float]:
    """Return all values that are drawn."""
    estimates = [found for one in data.finalists for found in (one.validation, one.test) if found is not None]
    ends = [value for found in estimates for value in (found.mean, found.low, found.high) if value is not None]
    return [*(one.row.value for one in data.finalists), *ends]


def _estimate(panel: Panel, axis: Axis, estimate: Estimate | None, y: float, kind: str, trial: int) -> str:
    if estimate is None:
        return ""
    mean = circle(panel.x(axis, estimate.mean), y, 4.5, class_=kind, data_t=trial)
    if estimate.low is None or estimate.high is None:
        return mean
    low, high = panel.x(axis, estimate.low), panel.x(axis, estimate.high)
    whiskers = f"M{low:.1f} {y - 4:.1f}v8m0 -4H{high:.1f}m0 -4v8"
    return path(whiskers, class_=f"interval {kind}", data_t=trial) + mean
