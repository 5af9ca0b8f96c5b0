"""The search for a learning rate: the loss at each rate that was tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from besom.svg.axis import axis_of, log_axis_of
from besom.svg.marks import text
from besom.tracking.figures.sheet import BLUE, DASHES, GREY, axes, curve, panel_at, plots


def lr_curve(table: Mapping[str, Any]) -> str:
    """Return the figure: the smoothed loss over the learning rate, and a line at the rate that was found."""
    tried = list(zip(table["lr"], table["loss"], strict=False))  # a search may end between a rate and its loss
    panel, found = panel_at(0), float(table["found"])
    across, up = log_axis_of([rate for rate, _ in tried]), axis_of([loss for _, loss in tried])
    return plots(
        axes(panel, across, up, x_label="learning rate", y_label="train/loss, smoothed")
        + curve(panel.points(across, up, [(found, up.low), (found, up.high)]), GREY, dashes=DASHES, width=1)
        + curve(panel.points(across, up, tried), BLUE)
        + text(panel.left + 6, panel.top + 8, f"found: {found:.3g}", anchor="start", fill=GREY)
    )
