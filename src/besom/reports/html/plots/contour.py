"""A contour plot: the objective over two parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from besom.config.objectives import Objective
from besom.reports.html.plots.canvas import Picture, frame, ranks, shade
from besom.reports.read.dimensions import Dimension
from besom.reports.read.report import Report
from besom.svg.marks import circle, rect
from besom.svg.panel import Panel

_PANEL = Panel(left=74, top=10, width=810, height=330)
_ENOUGH, _DISTINCT = 12, 5  # trials, and values on each axis, for a field between them
_WIDTH = 0.12  # of the kernel, as a share of the axis
_NEAR = 0.6  # the minimum sum of all kernels where the field is drawn
_COLUMNS, _ROWS = 36, 24
_FIELD = "Between them, a mean of the ranks weighted by nearness (a Gaussian kernel), drawn only near trials."
_NO_FIELD = "Too few values to say anything of what lies between them."


@dataclass(frozen=True, kw_only=True)
class _Contour:
    """The data of the plot: two numeric parameters, and the ranks of the trials that have both.

    `places` [n, 2] are the positions on both axes, 0 to 1, in the order of `ranks`.
    """

    objective: Objective
    across: Dimension
    up: Dimension
    ranks: Mapping[int, float]
    places: np.ndarray

    @property
    def has_field(self) -> bool:
        """True if there are enough trials for a field between them."""
        return len(self.places) >= _ENOUGH and all(len(set(column)) >= _DISTINCT for column in self.places.T.tolist())


def contour(report: Report) -> list[Picture]:
    """Draw the first objective over the two most important numeric parameters, if there are two."""
    return [_draw(data) for data in _read(report)]


def _read(report: Report) -> Iterator[_Contour]:
    numbers = [one for one in report.important if one.is_number][:2]
    if len(numbers) < 2:
        return
    points = [
        one for one in report.trials if one.complete and all(dimension.key in one.params for dimension in numbers)
    ]
    if len(points) < 2:
        return
    objective = report.objectives[0]
    yield _Contour(
        objective=objective,
        across=numbers[0],
        up=numbers[1],
        ranks=ranks({point.number: point.values[0] for point in points}, objective),
        places=np.array([[one.axis.share(one.place(point.params[one.key])) for one in numbers] for point in points]),
    )


def _draw(data: _Contour) -> Picture:
    name, across, up = data.objective.name, data.across, data.up
    marks = [
        circle(
            _PANEL.left + _PANEL.width * x, _PANEL.bottom - _PANEL.height * y, 5,
            class_="m ranked", data_t=trial, style=shade(rank),
        )
        for (trial, rank), (x, y) in zip(data.ranks.items(), data.places.tolist(), strict=True)
    ]  # fmt: skip
    note = f"Circles are trials, the stronger the better by rank in {name}. {_FIELD if data.has_field else _NO_FIELD}"
    return Picture(
        title=f"{name} over {across.key} and {up.key}",
        height=380,
        parts=[_field(data), frame(_PANEL, across.axis, up.axis, x_label=across.key, y_label=up.key), *marks],
        description=f"{len(data.places)} trials by {across.key} and {up.key}",
        note=note,
    )


def _field(data: _Contour) -> str:
    """Return cells colored by the kernel-weighted mean (Nadaraya 1964, Watson 1964), only near trials."""
    if not data.has_field:
        return ""
    xs, ys = (np.arange(_COLUMNS) + 0.5) / _COLUMNS, (np.arange(_ROWS) + 0.5) / _ROWS
    gaps = (xs[None, :, None] - data.places[:, 0]) ** 2 + (ys[:, None, None] - data.places[:, 1]) ** 2
    weights = np.exp(-gaps / (2 * _WIDTH**2))
    total = weights.sum(axis=2)
    mean = (weights * np.array(list(data.ranks.values()))).sum(axis=2) / np.maximum(total, 1e-12)
    width, height = _PANEL.width / _COLUMNS, _PANEL.height / _ROWS
    cells = [
        rect(
            _PANEL.left + column * width, _PANEL.bottom - (row + 1) * height, width + 0.3, height + 0.3,
            style=shade(float(mean[row, column])),
        )
        for row, column in np.argwhere(total >= _NEAR).tolist()
    ]  # fmt: skip
    return f'<g class="field">{"".join(cells)}</g>'
