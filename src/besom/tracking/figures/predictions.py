"""Predictions of a regression against the true values, and the residuals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from besom.svg.axis import axis_of
from besom.svg.marks import (  # fmt: skip
    BLUE,
    DASHES,
    GREY,
    PLOT_HEIGHT,
    PLOT_WIDTH,
    axes,
    curve,
    dots,
    panel_at,
    picture,
    text,
)


def predictions(table: Mapping[str, Any]) -> str:
    """Return the figure: predicted against true values with the identity line, and residuals over predicted values."""
    pairs = list(zip(table["true"], table["predicted"], strict=True))
    left, right = panel_at(0), panel_at(1)
    both = axis_of([value for pair in pairs for value in pair])
    parts = [axes(left, both, both, across_name="true", up_name="predicted")]
    ends = (both.low, both.high)
    parts.append(curve([(left.x(both, end), left.y(both, end)) for end in ends], GREY, dashes=DASHES, width=1))
    parts.append(dots([(left.x(both, true), left.y(both, predicted)) for true, predicted in pairs], BLUE))
    residuals = [(predicted, true - predicted) for true, predicted in pairs]
    across, up = axis_of([x for x, _ in residuals]), axis_of([0.0, *(y for _, y in residuals)])
    parts.append(axes(right, across, up, across_name="predicted", up_name="residual: true - predicted"))
    zero = [(right.left, right.y(up, 0.0)), (right.right, right.y(up, 0.0))]
    parts.append(curve(zero, GREY, dashes=DASHES, width=1))
    parts.append(dots([(right.x(across, x), right.y(up, y)) for x, y in residuals], BLUE))
    if len(pairs) < table["rows"]:
        note = f"{len(pairs):,} of {table['rows']:,} rows"
        parts.append(text(left.left + 6, left.top + 8, note, anchor="start", color=GREY, points=8))
    return picture(2 * PLOT_WIDTH + 6.72, PLOT_HEIGHT, "".join(parts))
