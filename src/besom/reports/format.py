"""Values as people read them in a table's cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from besom.secrets.masks import mask


def short(value: Any) -> str:
    """A param as a cell: floats to three digits, the password of a URI masked."""
    return f"{value:.3g}" if isinstance(value, float) else mask(str(value))


def number(value: float) -> str:
    """A metric's value: four decimals where they tell something, else four digits; a count as a count."""
    if 10 <= abs(value) < 1e15 and value == int(value):
        return f"{value:.0f}"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"


def signed(difference: float, of: float) -> str:
    """A difference between values such as `of`, with its sign, to the decimals that these are told with."""
    text = apart(abs(difference), of)
    return f"-{text}" if difference < 0 and text.strip("0.") else f"+{text}"


def apart(distance: float, of: float) -> str:
    """How far apart values such as `of` are, to the decimals that these are told with; by one digit, if that were 0.

    What is the rounding of single precision is 0.
    """
    told = number(of)
    if "e" in told:
        return f"{distance:.4g}"
    text = f"{distance:.{len(told.partition('.')[2])}f}"
    return text if text.strip("0.") or distance < 1e-6 * abs(of) else f"{distance:.1g}"


def headings(keys: Sequence[str]) -> list[str]:
    """The last part of each key, or the whole key where two would read the same."""
    lasts = [key.rpartition(".")[2] for key in keys]
    return [last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)]


def in_short(params: Mapping[str, Any]) -> str:
    """Params on one line; a text says by itself what it is."""
    named = zip(headings(list(params)), params.values(), strict=True)
    return "  ".join(mask(value) if isinstance(value, str) else f"{heading}={short(value)}" for heading, value in named)
