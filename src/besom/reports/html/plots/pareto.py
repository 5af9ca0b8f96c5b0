"""Objectives against each other, and the Pareto front."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from besom.config.objectives import Objective
from besom.reports.html.plots.canvas import Picture, beyond, frame, kind
from besom.reports.read.dimensions import objective_axis, spread_axis, within
from besom.reports.read.report import Report, TrialPoint
from besom.svg.axis import Axis
from besom.svg.marks import circle, path
from besom.svg.panel import Panel

_PANEL = Panel(left=74, top=10, width=810, height=320)


@dataclass(frozen=True, kw_only=True)
class _Front:
    """The data of a plot: the complete trials, and those on the front, which a line connects if `stepped`.

    `values` are those of (the second objective, the first one) by trial.
    """

    first: Objective
    second: Objective
    points: Sequence[TrialPoint]
    values: Mapping[int, tuple[float, float]]
    front: Sequence[int]
    stepped: bool
    across: Axis
    up: Axis


def fronts(report: Report) -> list[Picture]:
    """Draw the first objective against each of the others, if any trial is complete."""
    return [_draw(data) for data in _read(report)]


def _read(report: Report) -> Iterator[_Front]:
    points = [point for point in report.trials if point.complete]
    first, *others = report.objectives
    values = [point.values[0] for point in points]
    on_front = [point for point in points if point.number in report.summary.front]
    for place, second in enumerate(others if points else (), 1):
        yield _Front(
            first=first,
            second=second,
            points=sorted(points, key=lambda point: point in on_front),
            values={point.number: (point.values[place], point.values[0]) for point in points},
            front=[point.number for point in on_front],
            stepped=len(others) == 1,
            across=spread_axis([point.values[place] for point in points]),
            up=objective_axis(
                values, maximize=first.direction == "maximize", also=[point.values[0] for point in on_front]
            ),
        )


def _draw(data: _Front) -> Picture:
    first, second = data.first, data.second
    told = f"{len(data.front)} of {len(data.points)} trials are on the Pareto front"
    outside = beyond([value for _, value in data.values.values()], data.up)
    notes = [
        f"{told}: {first.direction} {first.name}, {second.direction} {second.name}.",
        outside,
        "Pale: breaks a constraint." if any(not point.feasible for point in data.points) else "",
    ]
    return Picture(
        title=f"{first.name} against {second.name}",
        height=370,
        parts=[
            frame(_PANEL, data.across, data.up, x_label=second.name, y_label=first.name),
            path(_front_line(data), class_="best-line"),
            *(_mark(data, point) for point in data.points),
        ],
        description=told,
        note=" ".join(filter(None, notes)),
    )


def _front_line(data: _Front) -> str:
    """Return steps along the front: between two trials, only values that both dominate are known to be attainable."""
    if not (data.stepped and data.front):
        return ""
    (x, y), *others = sorted(_PANEL.points(data.across, data.up, [data.values[trial] for trial in data.front]))
    step = "H{x:.1f}V{y:.1f}" if data.second.direction == "minimize" else "V{y:.1f}H{x:.1f}"
    return f"M{x:.1f} {y:.1f}" + "".join(step.format(x=x, y=y) for x, y in others)


def _mark(data: _Front, point: TrialPoint) -> str:
    (across, up), top = data.values[point.number], point.number in data.front
    x, y = _PANEL.x(data.across, across), _PANEL.y(data.up, within(data.up, up))
    return circle(x, y, 5 if top else 3.5, class_=f"m {kind(point, top=top)}", data_t=point.number)
