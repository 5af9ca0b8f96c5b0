"""The optimization history: each trial's value by number, and the best so far."""

from __future__ import annotations

from collections.abc import Sequence

from besom.config.objectives import Objective
from besom.reports.format import number
from besom.reports.html.plots.canvas import Picture, beyond, cross, dot, drawing, frame
from besom.reports.read.dimensions import objective_axis, spread_axis, within
from besom.reports.read.report import Report, TrialPoint
from besom.svg.axis import axis_of
from besom.svg.panel import Panel


def history(report: Report, place: int) -> Picture | None:
    """Draw the history of the objective with this index; None if no trial has a value."""
    objective = report.objectives[place]
    valued = [point for point in report.trials if len(point.values) > place]
    if not valued:
        return None
    values = [point.values[place] for point in valued]
    up = spread_axis(values) if place else objective_axis(values, maximize=objective.direction == "maximize")
    across = axis_of([point.number for point in report.trials], whole=True)
    panel = Panel(left=64, top=10, width=820, height=240)
    parts = [frame(panel, across, up, x_label="trial", y_label=objective.name)]
    steps = _best_so_far(valued, place, objective)
    if len(report.objectives) == 1 and steps:
        path = f"M{panel.x(across, steps[0][0]):.1f} {panel.y(up, within(up, steps[0][1])):.1f}"
        for trial, value in steps[1:]:
            path += f"H{panel.x(across, trial):.1f}V{panel.y(up, within(up, value)):.1f}"
        last = max(point.number for point in report.trials)
        parts.append(f'<path class="best-line" d="{path}H{panel.x(across, last):.1f}"/>')
    front = set(report.summary.front)
    best = report.summary.best
    for point in report.trials:
        x = panel.x(across, point.number)
        if len(point.values) <= place:
            parts.append(cross(x, panel.bottom - 5, point.number, f"m {point.state.name.lower()}"))
            continue
        kind = _kind(point, top=point.number in front or (best is not None and best.trial == point.number))
        parts.append(dot(x, panel.y(up, within(up, point.values[place])), point.number, f"m {kind}"))
    told = f"{len(valued)} trials' {objective.name}"
    if steps:
        told += f"; the best, {number(steps[-1][1])}, is trial {steps[-1][0]}"
    title = f"{objective.name} by trial"
    return Picture(
        title=title,
        svg=drawing(900, 290, "".join(parts), title=title, description=told),
        note=" ".join(filter(None, (beyond(values, up), _legend(report.trials)))),
    )


def _best_so_far(points: Sequence[TrialPoint], place: int, objective: Objective) -> list[tuple[int, float]]:
    steps: list[tuple[int, float]] = []
    for point in points:
        value = point.values[place]
        if point.complete and point.feasible and (not steps or objective.better(value, steps[-1][1])):
            steps.append((point.number, value))
    return steps


def _kind(point: TrialPoint, *, top: bool) -> str:
    if not point.complete:
        return point.state.name.lower()
    return "top" if top else "complete" if point.feasible else "infeasible"


def _legend(points: Sequence[TrialPoint]) -> str:
    said = {
        "pruned": "Hollow: pruned, at the last value it reported.",
        "fail": "Crosses: failed, without a value.",
    }
    states = {point.state.name.lower() for point in points}
    told = [text for state, text in said.items() if state in states]
    if any(not point.feasible for point in points):
        told.append("Pale: breaks a constraint.")
    return " ".join(told)
