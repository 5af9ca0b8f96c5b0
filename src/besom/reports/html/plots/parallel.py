"""Parallel coordinates: a line per trial through the values of its parameters to the objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from besom.config.objectives import Objective
from besom.reports.html.plots.canvas import Picture, ranks, shade
from besom.reports.read.dimensions import Dimension, objective_axis, within
from besom.reports.read.report import Report, TrialPoint, thinned
from besom.svg.axis import Axis
from besom.svg.marks import LETTER, clipped, path, rect, text
from besom.svg.panel import Panel

_AXES = 8
_LINES = 500
_TICKS = 9  # of choices; with more, every second or third is labelled

_PANEL = Panel(left=60, top=44, width=760, height=270)


@dataclass(frozen=True, kw_only=True)
class _Parallel:
    """The data of the plot: the trials that are drawn, the best last, their ranks, and the parameters' axes.

    `complete` and `parameters` are the numbers of all complete trials and of all parameters.
    """

    objective: Objective
    trials: Sequence[TrialPoint]
    ranks: Mapping[int, float]
    dimensions: Sequence[Dimension]
    up: Axis
    complete: int
    parameters: int

    @property
    def columns(self) -> list[float]:
        """The x coordinates of the axes; the last is the objective's."""
        return [_PANEL.left + _PANEL.width * place / len(self.dimensions) for place in range(len(self.dimensions) + 1)]


def parallel(report: Report) -> list[Picture]:
    """Draw the complete trials, the best on top, if there are two, and parameters.

    Axes of parameters that not every trial has come first: the line of a trial without them starts further right, and
    every line reaches the objective.
    """
    return [_draw(data) for data in _read(report)]


def _read(report: Report) -> Iterator[_Parallel]:
    points = [point for point in report.trials if point.complete]
    dimensions = sorted(report.important[:_AXES], key=lambda one: one.share)
    if len(points) < 2 or not dimensions:
        return
    objective = report.objectives[0]
    values = {point.number: point.values[0] for point in points}
    goodness = ranks(values, objective)
    points.sort(key=lambda point: goodness[point.number])
    best = points[-_LINES // 2 :]
    yield _Parallel(
        objective=objective,
        trials=[*thinned(points[: -_LINES // 2], _LINES // 2), *best] if len(points) > _LINES else points,
        ranks=goodness,
        dimensions=dimensions,
        up=objective_axis(list(values.values()), maximize=objective.direction == "maximize"),
        complete=len(points),
        parameters=len(report.important),
    )


def _draw(data: _Parallel) -> Picture:
    name, columns = data.objective.name, data.columns
    keys = ", ".join(one.key for one in data.dimensions)
    room = _PANEL.width / len(data.dimensions)
    parts = [_trial(data, point, columns) for point in data.trials]
    parts += [_axis(one.axis, x, one.key, room) for one, x in zip(data.dimensions, columns, strict=False)]
    parts.append(_axis(data.up, columns[-1], name, room))
    return Picture(
        title=f"parameters and {name}",
        height=330,
        parts=parts,
        description=f"{len(data.trials)} trials over {keys} and {name}",
        note=_note(data),
    )


def _note(data: _Parallel) -> str:
    name = data.objective.name
    told = [f"The stronger a color, the better in {name}. Drag along an axis to choose trials, click to let go."]
    if any(one.share < 1 for one in data.dimensions):
        told.append("A line begins where its trial's parameters do: those on its left it did not have.")
    if len(data.trials) < data.complete:
        told.append(f"{len(data.trials)} of {data.complete} complete trials are drawn, the best among them.")
    if data.parameters > _AXES:
        told.append(f"The {_AXES} parameters that mattered most, of {data.parameters}.")
    return " ".join(told)


def _trial(data: _Parallel, point: TrialPoint, columns: Sequence[float]) -> str:
    """Return the line of a trial, with a gap where it lacks a parameter."""
    heights = [
        _PANEL.y(one.axis, one.place(point.params[one.key])) if one.key in point.params else None
        for one in data.dimensions
    ]
    heights.append(_PANEL.y(data.up, within(data.up, point.values[0])))
    known = [(x, y) for x, y in zip(columns, heights, strict=True) if y is not None]
    line = f"M{known[0][0]:.1f} {known[0][1]:.1f}"
    gaps = {x for (x, y), (_, after) in pairwise(zip(columns, heights, strict=True)) if y is not None and after is None}
    for (before, _), (x, y) in pairwise(known):
        line += f"{'M' if before in gaps else 'L'}{x:.1f} {y:.1f}"
    places = ",".join("" if y is None else f"{y:.0f}" for y in heights)
    return path(line, class_="pl", data_t=point.number, data_y=places, style=shade(data.ranks[point.number]))


def _axis(axis: Axis, x: float, label: str, room: float) -> str:
    """Return a vertical axis with its brush; its labels are clipped to the room between two axes."""
    parts = [
        path(f"M{x:.1f} {_PANEL.top}V{_PANEL.bottom}", class_="rule"),
        rect(x - 9, _PANEL.top - 4, 18, _PANEL.height + 8, class_="brush"),
        text(x, 18, clipped(label, int(room / 5.6)), class_="axis name"),
    ]
    letters = int(room / LETTER) - 2
    for value, words in axis.ticks[:: -(-len(axis.ticks) // _TICKS)]:
        parts.append(text(x + 7, _PANEL.y(axis, value) + 4, clipped(words, letters), anchor="start", class_="on-line"))
    return "".join(parts)
