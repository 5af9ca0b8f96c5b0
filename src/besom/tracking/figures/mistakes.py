"""The misclassified images with the highest predicted probability."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import numpy as np

from besom.svg.marks import image, text
from besom.tracking.figures.sheet import figure

_COLUMNS = 5
_CELL, _SIDE, _LINE = 104.0, 66.0, 10.5
_ROW = _SIDE + 3 * _LINE + 4
_WRONG, _TRUE = "#b2182b", "#1a7a3c"
_LONG = 12  # letters of a class name that fit below a picture


def mistakes(table: Mapping[str, Any]) -> str:
    """Return the figure of the images with predicted class, its probability, and true class."""
    rows, columns = table["size"]
    scale = _SIDE / max(rows, columns)
    width, height = columns * scale, rows * scale
    parts = [text(8, 16, _head(table), anchor="start")]
    for place, mistake in enumerate(table["mistakes"]):
        middle, top = 8 + (place % _COLUMNS + 0.5) * _CELL, 28 + place // _COLUMNS * _ROW
        below = top + _SIDE + _LINE
        pixels = np.frombuffer(b64decode(mistake["pixels"]), np.uint8).reshape(rows, columns)
        parts.append(image(middle - width / 2, top, width, height, pixels))
        predicted = f"as {_short(mistake['predicted'])}, {100 * mistake['probability']:.3g} %"
        parts.append(text(middle, below, predicted, fill=_WRONG, font_size=8))
        parts.append(text(middle, below + _LINE, f"is {_short(mistake['true'])}", fill=_TRUE, font_size=8))
    return figure(16 + _COLUMNS * _CELL, 32 + -(-len(table["mistakes"]) // _COLUMNS) * _ROW, "".join(parts))


def _head(table: Mapping[str, Any]) -> str:
    shown, total = len(table["mistakes"]), table["total"]
    which = f"the {shown} most confident of {total:,} mistakes" if shown < total else f"{total or 'no'} mistakes"
    return f"{which} on {table['rows']:,} validation rows"


def _short(name: str) -> str:
    return name if len(name) <= _LONG else f"{name[: _LONG - 1]}…"
