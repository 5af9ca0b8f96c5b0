"""Learning curves: a panel per metric, training and validation over epochs, steps or folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from besom.config.units import Unit
from besom.svg.axis import axis_of
from besom.svg.marks import text
from besom.svg.panel import Panel
from besom.tracking.figures.sheet import BLUE, DASHES, GREY, axes, curve, dots, panel_at, plots

History = Sequence[tuple[int, Mapping[str, float]]]

_LINES = {"train": (GREY, DASHES, "╌╌"), "val": (BLUE, "none", "──")}
_FOLD = "fold/val"


def learning_curves(history: History, axis: Unit = Unit.EPOCH) -> str:
    """Return the figure of a history by this axis: the loss, and the accuracy or the absolute error if there is one.

    For a run evaluated by cross-validation, lines are the means over the folds so far, and dots the value of each fold.
    """
    names = {name.partition("/")[2] for _, metrics in history for name in metrics}
    metrics = ("loss", *[name for name in ("acc", "mae") if name in names][:1])
    return plots(*(_curves(panel_at(place), history, name, axis) for place, name in enumerate(metrics)))


def _curves(panel: Panel, history: History, metric: str, axis: Unit) -> str:
    lines = {
        part: [(step, float(metrics[f"{part}/{metric}"])) for step, metrics in history if f"{part}/{metric}" in metrics]
        for part in (*_LINES, _FOLD)
    }
    steps = axis_of([step for step, _ in history], whole=True)
    values = axis_of([value for points in lines.values() for _, value in points])
    parts = [axes(panel, steps, values, x_label=axis, y_label=metric)]
    parts.append(dots(panel.points(steps, values, lines[_FOLD]), BLUE, across=5))
    for row, (part, (color, dashes, sample)) in enumerate(_LINES.items()):
        parts.append(curve(panel.points(steps, values, lines[part]), color, dashes=dashes))
        # The legend is in the corner that such curves leave free.
        height = (0.15 if metric == "acc" else 0.93) - 0.09 * row
        where = (panel.left + 0.97 * panel.width, panel.bottom - height * panel.height + 3)
        name = f"{part}, mean so far" if axis is Unit.FOLD else part
        parts.append(text(*where, f"{name} {sample}", anchor="end", fill=color))
    return "".join(parts)
