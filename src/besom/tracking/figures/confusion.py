"""The confusion matrix on the validation data: a row per true class, a column per predicted class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from besom.svg.axis import axis_of
from besom.svg.marks import path, rect, text
from besom.svg.panel import Panel
from besom.tracking.figures.colors import BLUES, mixed
from besom.tracking.figures.sheet import figure

_SHORT = 3  # letters of a class name that fits below its column unrotated
_NUMBERED = 20  # classes; a larger matrix has no room for numbers
_PANEL = Panel(left=85.6, top=9.1, width=232.8, height=232.8)
_SHADES = 64
_COLORS = [f"#{color.tobytes().hex()}" for color in mixed(BLUES, [shade / _SHADES for shade in range(_SHADES + 1)])]


def confusion_matrix(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Return the figure of a confusion matrix; `counts` are row by row."""
    square = (_PANEL.left, _PANEL.top, _PANEL.width, _PANEL.height)
    parts = [
        rect(*square, fill=_COLORS[0]),
        _cells(counts),
        rect(*square, fill="none", stroke="#000", stroke_width=0.8),
        _names(classes),
        text(_PANEL.left + _PANEL.width / 2, _PANEL.bottom + 54, "predicted"),
        text(17, _PANEL.top + _PANEL.height / 2, "true", turn=-90),
    ]
    return figure(331.2, 302.4, "".join(parts))


def _cells(counts: Sequence[Sequence[int]]) -> str:
    """Return the cells that are not 0, colored by their share of the largest, and their counts if there is room."""
    size, highest = _PANEL.width / len(counts), max(map(max, counts))
    cells: dict[int, list[str]] = defaultdict(list)  # by shade: a large matrix has few
    numbers = []
    for row, line in enumerate(counts):
        for column, count in enumerate(line):
            if not count:
                continue
            x, y = _PANEL.left + column * size, _PANEL.top + row * size
            cells[round(count / highest * _SHADES)].append(f"M{x:.2f} {y:.2f}h{size:.2f}v{size:.2f}h-{size:.2f}z")
            if len(counts) <= _NUMBERED:
                light: dict[str, Any] = {"fill": "#fff"} if count > highest / 2 else {}
                numbers.append(text(x + size / 2, y + size / 2 + 2.5, str(count), **light))
    shades = [
        path("".join(squares), fill=_COLORS[shade], shape_rendering="crispEdges")
        for shade, squares in sorted(cells.items())
    ]
    return "".join(shades) + _small(numbers)


def _names(classes: Sequence[str]) -> str:
    """Return the names of the classes below and beside the matrix, or some of their numbers if there are many."""
    shown: Sequence[tuple[float, str]] = list(enumerate(classes))
    if len(classes) > _NUMBERED:
        shown = axis_of([0, len(classes) - 1], whole=True).ticks
    turn = -45 if max(len(name) for _, name in shown) > _SHORT else 0
    parts = []
    for place, name in shown:
        middle = (place + 0.5) * _PANEL.width / len(classes)
        anchor = "end" if turn else "middle"
        parts.append(text(_PANEL.left + middle, _PANEL.bottom + 12, name, turn=turn, anchor=anchor))
        parts.append(text(_PANEL.left - 7, _PANEL.top + middle + 2.5, name, anchor="end"))
    return _small(parts)


def _small(texts: Sequence[str]) -> str:
    return f'<g font-size="7">{"".join(texts)}</g>'
