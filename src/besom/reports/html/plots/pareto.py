"""Objectives against each other, and the Pareto front."""

from __future__ import annotations

from besom.reports.html.plots.canvas import Picture, beyond, dot, drawing, frame
from besom.reports.read.dimensions import objective_axis, spread_axis, within
from besom.reports.read.report import Report
from besom.svg.panel import Panel


def fronts(report: Report) -> list[Picture]:
    """Draw the first objective against each of the others; empty with one objective, or no complete trial."""
    found = (_front(report, other) for other in range(1, len(report.objectives)))
    return [picture for picture in found if picture is not None]


def _front(report: Report, other: int) -> Picture | None:
    points = [point for point in report.trials if point.complete]
    if not points:
        return None
    first, second = report.objectives[0], report.objectives[other]
    across = spread_axis([point.values[other] for point in points])
    on_front = [point for point in points if point.number in report.summary.front]
    up = objective_axis(
        [point.values[0] for point in points], maximize=first.direction == "maximize",
        also=[point.values[0] for point in on_front],
    )  # fmt: skip
    panel = Panel(left=64, top=10, width=820, height=320)
    parts = [frame(panel, across, up, x_label=second.name, y_label=first.name)]
    if len(report.objectives) == 2 and on_front:
        places = sorted((panel.x(across, point.values[other]), panel.y(up, point.values[0])) for point in on_front)
        # Between two of them, only values that both dominate are known to be attainable.
        worse_first = second.direction == "minimize"
        path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
        for x, y in places[1:]:
            path += f"H{x:.1f}V{y:.1f}" if worse_first else f"V{y:.1f}H{x:.1f}"
        parts.append(f'<path class="best-line" d="{path}"/>')
    for point in sorted(points, key=lambda point: point in on_front):
        kind = "top" if point in on_front else "complete" if point.feasible else "infeasible"
        place = panel.x(across, point.values[other]), panel.y(up, within(up, point.values[0]))
        parts.append(dot(*place, point.number, f"m {kind}", radius=5 if point in on_front else 3.5))
    title = f"{first.name} against {second.name}"
    told = f"{len(on_front)} of {len(points)} trials are on the Pareto front"
    return Picture(
        title=title,
        svg=drawing(900, 370, "".join(parts), title=title, description=told),
        note=f"{told}: {first.direction} {first.name}, {second.direction} {second.name}."
        + f" {beyond([point.values[0] for point in points], up)}".rstrip()
        + (" Pale: breaks a constraint." if any(not point.feasible for point in points) else ""),
    )
