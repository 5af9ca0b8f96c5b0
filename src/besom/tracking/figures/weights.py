"""The weights of a linear model on images, class by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from besom.svg.marks import image, text
from besom.tracking.figures.colors import RED_TO_BLUE, mixed
from besom.tracking.figures.sheet import figure

_COLUMNS = 5
_CELL, _SIDE = 96.0, 88.0
_ROW, _TOP = _SIDE + 20, 44.0
_BAR = 12.0
_STEPS = 64
_HEAD = "what speaks for a class, blue, and against it, red: its weights, pixel by pixel"


def weight_pictures(table: Mapping[str, Any]) -> str:
    """Return the figure: an image of weights per output, all with one color scale; white is 0."""
    rows, columns = table["size"]
    weights = np.array(table["weights"], np.float64).reshape(-1, rows, columns)
    largest = float(np.abs(weights).max(initial=0.0)) or 1.0
    scale = _SIDE / max(rows, columns)
    parts = [text(8, 16, _HEAD, anchor="start")]
    for place, (name, pixels) in enumerate(
        zip(table["outputs"], mixed(RED_TO_BLUE, (weights / largest + 1) / 2), strict=True)
    ):
        x, y = 8 + place % _COLUMNS * _CELL, _TOP + place // _COLUMNS * _ROW
        parts.append(text(x + _SIDE / 2, y - 5, name))
        parts.append(image(x, y, columns * scale, rows * scale, pixels))
    right = 8 + min(_COLUMNS, len(weights)) * _CELL
    bottom = _TOP + -(-len(weights) // _COLUMNS) * _ROW - 20
    parts.append(_scale(right + 4, bottom, largest))
    return figure(right + _BAR + 42, bottom + 10, "".join(parts))


def _scale(left: float, bottom: float, largest: float) -> str:
    """Return the color scale, from `largest` at the top to its negative."""
    height = bottom - _TOP
    parts = [image(left, _TOP, _BAR, height, mixed(RED_TO_BLUE, np.linspace(1, 0, _STEPS))[:, None])]
    for share, label in ((0.0, f"{largest:.2g}"), (0.5, "0"), (1.0, f"-{largest:.2g}")):
        parts.append(text(left + _BAR + 5, _TOP + share * height + 3.6, label, anchor="start"))
    return "".join(parts)
