"""Color maps from ColorBrewer, which vary in lightness as much as in hue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def _color_map(colors: str) -> np.ndarray:
    return np.array([list(bytes.fromhex(color)) for color in colors.split()], np.float64)


BLUES = _color_map("f7fbff deebf7 c6dbef 9ecae1 6baed6 4292c6 2171b5 08519c 08306b")
"""A sequential color map, from 0 to the maximum."""

RED_TO_BLUE = _color_map("67001f b2182b d6604d f4a582 fddbc7 f7f7f7 d1e5f0 92c5de 4393c3 2166ac 053061")
"""A diverging color map, with 0 in the middle."""


def mixed(color_map: np.ndarray, shares: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return the colors [..., 3] (uint8) of a color map at `shares` [...], 0 to 1, by linear interpolation."""
    place = np.asarray(shares) * (len(color_map) - 1)
    below = np.minimum(place.astype(int), len(color_map) - 2)
    colors = color_map[below] + np.diff(color_map, axis=0)[below] * (place - below)[..., None]
    return np.asarray(np.rint(colors), np.uint8)
