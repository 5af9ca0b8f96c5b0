"""Predictions of a regression against the true values, and the residuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from besom.svg.axis import axis_of
from besom.svg.marks import text
from besom.tracking.figures.sheet import BLUE, DASHES, GREY, axes, curve, dots, panel_at, plots


def predictions(table: Mapping[str, Any]) -> str:
    """Return the figure: predicted against true values with the identity line, and residuals over predicted values."""
    pairs = list(zip(table["true"], table["predicted"], strict=True))
    shown = f"{len(pairs):,} of {table['rows']:,} rows" if len(pairs) < table["rows"] else ""
    return plots(_against_true(pairs, shown), _residuals([(predicted, true - predicted) for true, predicted in pairs]))


def _against_true(pairs: Sequence[tuple[float, float]], note: str) -> str:
    panel, axis = panel_at(0), axis_of([value for pair in pairs for value in pair])
    parts = [
        axes(panel, axis, axis, x_label="true", y_label="predicted"),
        curve(panel.points(axis, axis, [(end, end) for end in (axis.low, axis.high)]), GREY, dashes=DASHES, width=1),
        dots(panel.points(axis, axis, pairs), BLUE),
    ]
    if note:
        parts.append(text(panel.left + 6, panel.top + 8, note, anchor="start", fill=GREY, font_size=8))
    return "".join(parts)


def _residuals(residuals: Sequence[tuple[float, float]]) -> str:
    panel = panel_at(1)
    across, up = axis_of([x for x, _ in residuals]), axis_of([0.0, *(y for _, y in residuals)])
    parts = [
        axes(panel, across, up, x_label="predicted", y_label="residual: true - predicted"),
        curve(
            panel.points(across, up, [(end, 0.0) for end in (across.low, across.high)]), GREY, dashes=DASHES, width=1
        ),
        dots(panel.points(across, up, residuals), BLUE),
    ]
    return "".join(parts)
