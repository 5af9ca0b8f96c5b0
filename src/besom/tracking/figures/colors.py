"""Color maps from ColorBrewer, which vary in lightness as much as in hue."""

from __future__ import annotations

from collections.abc import Sequence

BLUES = ("f7fbff", "deebf7", "c6dbef", "9ecae1", "6baed6", "4292c6", "2171b5", "08519c", "08306b")
"""A sequential color map, from 0 to the maximum."""

RED_TO_BLUE = (
    "67001f",
    "b2182b",
    "d6604d",
    "f4a582",
    "fddbc7",
    "f7f7f7",
    "d1e5f0",
    "92c5de",
    "4393c3",
    "2166ac",
    "053061",
)
"""A diverging color map, with 0 in the middle."""


def mixed(ramp: Sequence[str], share: float) -> bytes:
    """Return the color (red, green, blue) of a color map at `share`, 0 to 1, by linear interpolation."""
    place = share * (len(ramp) - 1)
    below = min(int(place), len(ramp) - 2)
    low, high = (bytes.fromhex(ramp[index]) for index in (below, below + 1))
    return bytes(round(start + (end - start) * (place - below)) for start, end in zip(low, high, strict=True))
