"""Slice plots: the objective over one parameter at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from besom.config.objectives import Objective
from besom.reports.html.plots.canvas import Picture, frame
from besom.reports.read.dimensions import Dimension, objective_axis, within
from besom.reports.read.report import Report, TrialPoint
from besom.svg.axis import Axis
from besom.svg.marks import circle, clipped
from besom.svg.panel import Panel
from besom.svg.ticks import height_of_x_labels

_SHOWN = 9
_GOLDEN = 0.618034  # its multiples spread evenly over 0 to 1
_PANEL = Panel(left=74, top=8, width=210, height=150)


@dataclass(frozen=True, kw_only=True)
class _Slice:
    """The data of a plot: the trials that have the parameter, its importance, and the number of the best trial."""

    objective: Objective
    dimension: Dimension
    points: Sequence[TrialPoint]
    importance: float | None
    best: int | None
    up: Axis


def slices(report: Report) -> list[Picture]:
    """Draw the first objective over each of the most important parameters, if two trials are complete."""
    return [_draw(data) for data in _read(report)]


def _read(report: Report) -> Iterator[_Slice]:
    points = [point for point in report.trials if point.complete]
    objective, best = report.objectives[0], report.summary.best
    for dimension in report.important[:_SHOWN] if len(points) > 1 else ():
        yield _Slice(
            objective=objective,
            dimension=dimension,
            points=[point for point in points if dimension.key in point.params],
            importance=report.summary.importances.shares.get(dimension.key),
            best=best.trial if best else None,
            up=objective_axis([point.values[0] for point in points], maximize=objective.direction == "maximize"),
        )


def _draw(data: _Slice) -> Picture:
    name, key, axis = data.objective.name, data.dimension.key, data.dimension.axis
    share = "" if data.importance is None else f", {100 * data.importance:.0f} %"
    return Picture(
        title=f"{clipped(key, 34)}{share}",
        width=300,
        height=_PANEL.bottom + height_of_x_labels(_PANEL, axis),
        parts=[frame(_PANEL, axis, data.up, y_label=name), *(_mark(data, point) for point in data.points)],
        description=f"{name} of {len(data.points)} trials over {key}",
    )


def _mark(data: _Slice, point: TrialPoint) -> str:
    dimension = data.dimension
    value = dimension.place(point.params[dimension.key])
    if not dimension.is_number:  # side by side, or they would hide each other
        value += 0.5 * ((point.number * _GOLDEN) % 1 - 0.5)
    x, y = _PANEL.x(dimension.axis, value), _PANEL.y(data.up, within(data.up, point.values[0]))
    return circle(x, y, 3, class_="m top" if point.number == data.best else "m complete", data_t=point.number)
