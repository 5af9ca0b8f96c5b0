"""SVG elements: paths, rectangles, circles, images, texts.

Coordinates are in the figure's units from the upper left. Keywords are attributes of the element: `stroke_width=2`,
`data_t=7`, and `class_="grid"`, since `class` is a keyword of Python.
"""

from __future__ import annotations

import io
import math
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from html import escape

import numpy as np

LETTER = 6.2
"""The approximate width of a letter in a label of 11 units."""


def path(data: str, **style: object) -> str:
    """Return a path, or an empty text without data."""
    return f'<path d="{data}"{_attributes(style)}/>' if data else ""


def rect(x: float, y: float, width: float, height: float, **style: object) -> str:
    """Return a rectangle with its upper left corner at (x, y)."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{_attributes(style)}/>'


def circle(x: float, y: float, radius: float, **style: object) -> str:
    """Return a circle around (x, y), or an empty text if that is not finite."""
    if not (math.isfinite(x) and math.isfinite(y)):
        return ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"{_attributes(style)}/>'


def text(x: float, y: float, words: str, *, anchor: str = "middle", turn: int = 0, **style: object) -> str:
    """Return a text at (x, y); `turn` is in degrees, clockwise."""
    turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turned}{_attributes(style)}>{escaped(words)}</text>'


def image(x: float, y: float, width: float, height: float, pixels: np.ndarray) -> str:
    """Return a raster image that is scaled without smoothing.

    `pixels` (uint8) are grey values [rows, columns] or colors [rows, columns, 3].
    """
    from PIL import Image  # 30 ms that a figure without an image does not need

    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    source = b64encode(png.getvalue()).decode()
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{source}"/>'
    )


def line(points: Iterable[tuple[float, float]]) -> str:
    """Return the data of a path through points, with a gap at those that are not finite, as of diverged training."""
    return "".join(_steps(points))


def _steps(points: Iterable[tuple[float, float]]) -> Iterator[str]:
    step = "M"
    for x, y in points:
        if math.isfinite(y):
            yield f"{step}{x:.2f} {y:.2f}"
            step = "L"
        else:
            step = "M"


def clipped(words: str, letters: int) -> str:
    """Return the text, or its last `letters`: the end of a dotted key is most informative."""
    return words if len(words) <= letters else f"…{words[-letters + 1 :]}"


def escaped(text: str) -> str:
    """Return a text escaped for XML, with unprintable characters replaced."""
    return escape(text if text.isprintable() else "".join(sign if sign.isprintable() else "�" for sign in text))


def _attributes(style: Mapping[str, object]) -> str:
    return "".join([f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for name, value in style.items()])
