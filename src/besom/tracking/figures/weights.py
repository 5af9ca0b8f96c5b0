"""The weights of a linear model on images, class by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from besom.svg.marks import picture, text
from besom.tracking.figures.colors import RED_TO_BLUE, mixed
from besom.tracking.figures.pixels import image

_COLUMNS = 5
_CELL, _SIDE = 96.0, 88.0
_ROW, _TOP = _SIDE + 20, 44.0
_BAR = 12.0
_STEPS = 64


def weight_pictures(table: Mapping[str, Any]) -> str:
    """Return the figure: an image of weights per output, all with one color scale; white is 0."""
    height, width = table["size"]
    named = list(zip(table["outputs"], table["weights"], strict=True))
    largest = max((abs(value) for _, weights in named for value in weights), default=0.0) or 1.0
    scale = _SIDE / max(height, width)
    columns, rows = min(_COLUMNS, len(named)), -(-len(named) // _COLUMNS)
    parts = [
        text(8, 16, "what speaks for a class, blue, and against it, red: its weights, pixel by pixel", anchor="start")
    ]
    for place, (name, weights) in enumerate(named):
        x, y = 8 + place % _COLUMNS * _CELL, _TOP + place // _COLUMNS * _ROW
        colors = b"".join(mixed(RED_TO_BLUE, (value / largest + 1) / 2) for value in weights)
        parts.append(text(x + _SIDE / 2, y - 5, name))
        parts.append(image(x, y, width=width * scale, height=height * scale, pixels=colors, columns=width, channels=3))
    bottom = _TOP + rows * _ROW - 20
    right = 8 + columns * _CELL
    ramp = b"".join(mixed(RED_TO_BLUE, 1 - step / (_STEPS - 1)) for step in range(_STEPS))
    parts.append(image(right + 4, _TOP, width=_BAR, height=bottom - _TOP, pixels=ramp, columns=1, channels=3))
    for share, label in ((0.0, f"{largest:.2g}"), (0.5, "0"), (1.0, f"-{largest:.2g}")):
        parts.append(text(right + _BAR + 9, _TOP + share * (bottom - _TOP) + 3.6, label, anchor="start"))
    return picture(right + _BAR + 42, bottom + 10, "".join(parts))
