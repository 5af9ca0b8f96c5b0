"""Slice and contour plots: the objective over one parameter, and over two."""

from __future__ import annotations

import numpy as np

from besom.reports.html.plots.canvas import Picture, clipped, dot, drawing, frame, labels_below, ranks, shade
from besom.reports.read.dimensions import Dimension, objective_axis, within
from besom.reports.read.report import Report
from besom.svg.panel import Panel

_SHOWN = 9
_GOLDEN = 0.618034  # its multiples spread evenly over 0 to 1
_ENOUGH, _DISTINCT = 12, 5  # trials, and values on each axis, for a field between them
_WIDTH = 0.12  # of the kernel, as a share of the axis
_NEAR = 0.6  # the minimum sum of all kernels where the field is drawn
_COLUMNS, _ROWS = 36, 24


def slices(report: Report) -> list[Picture]:
    """Draw the first objective over each of the most important parameters; empty with fewer than two trials."""
    points = [point for point in report.trials if point.complete]
    if len(points) < 2:
        return []
    return [_slice(report, one) for one in report.important[:_SHOWN]]


def _slice(report: Report, dimension: Dimension) -> Picture:
    objective = report.objectives[0]
    points = [point for point in report.trials if point.complete and dimension.key in point.params]
    up = objective_axis(
        [point.values[0] for point in report.trials if point.complete], maximize=objective.direction == "maximize"
    )
    panel = Panel(left=58, top=8, width=226, height=150)
    parts = [frame(panel, dimension.axis, up, y_label=objective.name)]
    best = report.summary.best
    for point in points:
        x = dimension.place(point.params[dimension.key])
        if not dimension.is_number:  # side by side, or they would hide each other
            x += 0.5 * ((point.number * _GOLDEN) % 1 - 0.5)
        kind = "top" if best is not None and best.trial == point.number else "complete"
        y = panel.y(up, within(up, point.values[0]))
        parts.append(dot(panel.x(dimension.axis, x), y, point.number, f"m {kind}", radius=3))
    share = report.summary.importances.get(dimension.key)
    title = f"{clipped(dimension.key, 34)}{'' if share is None else f', {100 * share:.0f} %'}"
    told = f"{objective.name} of {len(points)} trials over {dimension.key}"
    height = panel.bottom + labels_below(panel, dimension.axis)
    return Picture(title=title, svg=drawing(300, height, "".join(parts), title=title, description=told), wide=False)


def contour(report: Report) -> Picture | None:
    """Draw the first objective over the two most important numeric parameters; None with fewer."""
    numbers = [one for one in report.important if one.is_number][:2]
    if len(numbers) < 2:
        return None
    across, up = numbers
    objective = report.objectives[0]
    points = [one for one in report.trials if one.complete and across.key in one.params and up.key in one.params]
    if len(points) < 2:
        return None
    panel = Panel(left=64, top=10, width=820, height=330)
    goodness = ranks({point.number: point.values[0] for point in points}, objective)
    places = np.array([
        (across.axis.share(across.place(point.params[across.key])), up.axis.share(up.place(point.params[up.key])))
        for point in points
    ])  # fmt: skip
    field = len(points) >= _ENOUGH and all(len(set(column)) >= _DISTINCT for column in places.T.tolist())
    parts = [_field(panel, places, np.array([goodness[point.number] for point in points]))] if field else []
    parts.append(frame(panel, across.axis, up.axis, x_label=across.key, y_label=up.key))
    for point, (x, y) in zip(points, places, strict=True):
        where = (panel.left + panel.width * float(x), panel.bottom - panel.height * float(y))
        parts.append(dot(*where, point.number, "m ranked", radius=5, style=shade(goodness[point.number])))
    title = f"{objective.name} over {across.key} and {up.key}"
    note = f"Circles are trials, the stronger the better by rank in {objective.name}. "
    note += (
        "Between them, a mean of the ranks weighted by nearness (a Gaussian kernel), drawn only near trials."
        if field
        else "Too few values to say anything of what lies between them."
    )
    described = f"{len(points)} trials by {across.key} and {up.key}"
    return Picture(title=title, svg=drawing(900, 380, "".join(parts), title=title, description=described), note=note)


def _field(panel: Panel, places: np.ndarray, goodness: np.ndarray) -> str:
    """Return cells colored by the kernel-weighted mean (Nadaraya 1964, Watson 1964), only near trials."""
    xs, ys = (np.arange(_COLUMNS) + 0.5) / _COLUMNS, (np.arange(_ROWS) + 0.5) / _ROWS
    gaps = (xs[None, :, None] - places[:, 0]) ** 2 + (ys[:, None, None] - places[:, 1]) ** 2
    weights = np.exp(-gaps / (2 * _WIDTH**2))
    total = weights.sum(axis=2)
    mean = (weights * goodness).sum(axis=2) / np.maximum(total, 1e-12)
    width, height = panel.width / _COLUMNS, panel.height / _ROWS
    cells = []
    for row in range(_ROWS):
        for column in range(_COLUMNS):
            if total[row, column] >= _NEAR:
                x, y = panel.left + column * width, panel.bottom - (row + 1) * height
                cells.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{width + 0.3:.1f}" height="{height + 0.3:.1f}" '
                    f'style="{shade(float(mean[row, column]))}"/>'
                )
    return f'<g class="field">{"".join(cells)}</g>'
