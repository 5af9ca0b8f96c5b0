"""The SVG elements of a run's figures: axes, lines, dots, text. Coordinates are in points from the upper left."""

from __future__ import annotations

import math
from collections.abc import Iterable

from besom.svg.axis import Axis
from besom.svg.panel import Panel, Points, line, shown

BLUE, GREY = "#1f77b4", "#7f7f7f"
DASHES = "5.55 2.4"
PLOT_WIDTH, PLOT_HEIGHT = 299.04, 216.0
"""The size of a plot with its axes."""

_FONT = "DejaVu Sans, Verdana, Arial, Helvetica, sans-serif"


def panel_at(place: int) -> Panel:
    """Return the panel of the plot with this index, from 0, of several side by side."""
    return Panel(left=54.43 + PLOT_WIDTH * place, top=8.64, width=239.23, height=172.8)


def axes(panel: Panel, across: Axis, up: Axis, *, across_name: str, up_name: str) -> str:
    """Return both axes of a panel, with their ticks and names."""
    parts = [
        f'<path d="M{panel.left:.2f} {panel.top:.2f}V{panel.bottom:.2f}H{panel.right:.2f}" '
        'fill="none" stroke="#000" stroke-width="0.8"/>'
    ]
    for tick, label in across.ticks:
        parts.append(text(panel.x(across, tick), panel.bottom + 14.6, label))
    for tick, label in up.ticks:
        parts.append(text(panel.left - 7, panel.y(up, tick) + 3.6, label, anchor="end"))
    parts.append(text(panel.left + panel.width / 2, panel.bottom + 30, across_name))
    parts.append(text(panel.left - 44, panel.top + panel.height / 2, up_name, turn=-90))
    return "".join(parts)


def curve(points: Points, color: str, *, dashes: str = "", width: float = 1.5) -> str:
    """Return a line through the points, or an empty text without points."""
    path, dashed = line(points), f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{width}"{dashed}/>' if path else ""


def dots(points: Iterable[tuple[float, float]], color: str, *, across: float = 3.0) -> str:
    """Return a dot at each finite point."""
    path = "".join(f"M{x:.2f} {y:.2f}h0" for x, y in points if math.isfinite(x) and math.isfinite(y))
    style = f'stroke="{color}" stroke-width="{across}" stroke-linecap="round" stroke-opacity="0.6"'
    return f'<path d="{path}" fill="none" {style}/>' if path else ""


def text(
    x: float, y: float, words: str, *, anchor: str = "middle", color: str = "#000", turn: int = 0, points: int = 10
) -> str:
    """Return a text at (x, y); `turn` is in degrees, clockwise."""
    more = f' transform="rotate({turn} {x:.2f} {y:.2f})"' if turn else ""
    more += f' fill="{color}"' if color != "#000" else ""
    more += f' font-size="{points}"' if points != 10 else ""
    return f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}"{more}>{shown(words)}</text>'


def picture(width: float, height: float, content: str) -> str:
    """Return a complete SVG document."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.2f}pt" height="{height:.2f}pt" '
        f'viewBox="0 0 {width:.2f} {height:.2f}" font-family="{_FONT}" font-size="10" stroke-linejoin="round">'
        f'<rect width="100%" height="100%" fill="#fff"/>{content}</svg>\n'
    )
