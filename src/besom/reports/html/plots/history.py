"""The optimization history: each trial's value by number, and the best so far."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from besom.config.objectives import Objective
from besom.reports.format import number
from besom.reports.html.plots.canvas import Picture, beyond, frame, kind
from besom.reports.read.dimensions import objective_axis, spread_axis, within
from besom.reports.read.report import Report, TrialPoint
from besom.svg.axis import Axis, axis_of
from besom.svg.marks import circle, path
from besom.svg.panel import Panel

_PANEL = Panel(left=74, top=10, width=810, height=240)
_LEGEND = {
    "pruned": "Hollow: pruned, at the last value it reported.",
    "fail": "Crosses: failed, without a value.",
}


@dataclass(frozen=True, kw_only=True)
class _History:
    """The data of a plot: the trials, and the values of those that have one; `top` are the best trials.

    `steps` are the trials that were the best so far, with their values; a line connects them if `stepped`.
    """

    objective: Objective
    trials: Sequence[TrialPoint]
    values: Mapping[int, float]
    top: Collection[int]
    steps: Sequence[tuple[int, float]]
    stepped: bool
    across: Axis
    up: Axis


def history(report: Report) -> list[Picture]:
    """Draw the history of each objective that any trial has a value of."""
    return [_draw(data) for data in _read(report)]


def _read(report: Report) -> Iterator[_History]:
    best = report.summary.best
    for place, objective in enumerate(report.objectives):
        valued = [point for point in report.trials if len(point.values) > place]
        values = {point.number: point.values[place] for point in valued}
        if not values:
            continue
        found = list(values.values())
        yield _History(
            objective=objective,
            trials=report.trials,
            values=values,
            top={*report.summary.front, *([best.trial] if best else [])},
            steps=_best_so_far(valued, place, objective),
            stepped=len(report.objectives) == 1,
            across=axis_of([point.number for point in report.trials], whole=True),
            up=spread_axis(found) if place else objective_axis(found, maximize=objective.direction == "maximize"),
        )


def _best_so_far(points: Sequence[TrialPoint], place: int, objective: Objective) -> list[tuple[int, float]]:
    steps: list[tuple[int, float]] = []
    for point in points:
        value = point.values[place]
        if point.complete and point.feasible and (not steps or objective.better(value, steps[-1][1])):
            steps.append((point.number, value))
    return steps


def _draw(data: _History) -> Picture:
    name, across, up = data.objective.name, data.across, data.up
    told = f"{len(data.values)} trials' {name}"
    if data.steps:
        told += f"; the best, {number(data.steps[-1][1], name)}, is trial {data.steps[-1][0]}"
    return Picture(
        title=f"{name} by trial",
        height=290,
        parts=[
            frame(_PANEL, across, up, x_label="trial", y_label=name),
            path(_best_line(data), class_="best-line"),
            *(_mark(data, point) for point in data.trials),
        ],
        description=told,
        note=" ".join(filter(None, (beyond(list(data.values.values()), up), _legend(data.trials)))),
    )


def _best_line(data: _History) -> str:
    if not (data.stepped and data.steps):
        return ""
    (x, y), *others = _PANEL.points(
        data.across, data.up, [(trial, within(data.up, value)) for trial, value in data.steps]
    )
    last = max(point.number for point in data.trials)
    return f"M{x:.1f} {y:.1f}{''.join(f'H{x:.1f}V{y:.1f}' for x, y in others)}H{_PANEL.x(data.across, last):.1f}"


def _mark(data: _History, point: TrialPoint) -> str:
    """Return a dot, or a cross at the bottom for a trial without a value."""
    x = _PANEL.x(data.across, point.number)
    look = {"class_": f"m {kind(point, top=point.number in data.top)}", "data_t": point.number}
    if point.number not in data.values:
        return path(f"M{x - 3:.1f} {_PANEL.bottom - 8:.1f}l6 6m0 -6l-6 6", **look)
    return circle(x, _PANEL.y(data.up, within(data.up, data.values[point.number])), 3.5, **look)


def _legend(points: Sequence[TrialPoint]) -> str:
    states = {point.state.name.lower() for point in points}
    told = [text for state, text in _LEGEND.items() if state in states]
    if any(not point.feasible for point in points):
        told.append("Pale: breaks a constraint.")
    return " ".join(told)
