"""The look of a run's figures: the size of a plot, colors, lines and dots, the document."""

from __future__ import annotations

import math

from besom.svg.axis import Axis
from besom.svg.marks import line, path
from besom.svg.panel import Panel, Points
from besom.svg.ticks import x_labels, y_labels

BLUE, GREY = "#1f77b4", "#7f7f7f"
DASHES = "5.55 2.4"

_WIDTH, _HEIGHT = 299.0, 216.0  # of a plot with its axes
_FONT = "DejaVu Sans, Verdana, Arial, Helvetica, sans-serif"


def panel_at(place: int) -> Panel:
    """Return the panel of the plot with this index, from 0, of several side by side."""
    return Panel(left=54.4 + _WIDTH * place, top=8.6, width=239.2, height=172.8)


def axes(panel: Panel, across: Axis, up: Axis, *, x_label: str, y_label: str) -> str:
    """Return both axes of a panel, with tick labels and axis labels."""
    corner = f"M{panel.left:.1f} {panel.top:.1f}V{panel.bottom:.1f}H{panel.right:.1f}"
    edges = path(corner, fill="none", stroke="#000", stroke_width=0.8)
    return edges + x_labels(panel, across, x_label) + y_labels(panel, up, y_label)


def curve(points: Points, color: str, *, dashes: str = "none", width: float = 1.5) -> str:
    """Return a line through the points, or an empty text without points."""
    return path(line(points), fill="none", stroke=color, stroke_width=width, stroke_dasharray=dashes)


def dots(points: Points, color: str, *, across: float = 3.0) -> str:
    """Return a dot at each finite point."""
    places = "".join(f"M{x:.2f} {y:.2f}h0" for x, y in points if math.isfinite(x) and math.isfinite(y))
    return path(places, fill="none", stroke=color, stroke_width=across, stroke_linecap="round", stroke_opacity=0.6)


def plots(*contents: str) -> str:
    """Return a figure of plots side by side."""
    return figure(_WIDTH * len(contents) + 6.7, _HEIGHT, "".join(contents))


def figure(width: float, height: float, content: str) -> str:
    """Return a figure as an SVG document."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.1f}pt" height="{height:.1f}pt" '
        f'viewBox="0 0 {width:.1f} {height:.1f}" font-family="{_FONT}" font-size="10" stroke-linejoin="round">'
        f'<rect width="100%" height="100%" fill="#fff"/>{content}</svg>\n'
    )
