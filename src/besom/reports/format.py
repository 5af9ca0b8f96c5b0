"""Formatting of values for table cells and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from besom.config.objectives import COUNTS, Objective
from besom.secrets.masks import mask


def short(value: Any) -> str:
    """Return a param as a cell: floats with three digits, the password of a URI masked."""
    return f"{value:.3g}" if isinstance(value, float) else mask(str(value))


def number(value: float, metric: str = "") -> str:
    """Return a metric's value: four decimals where they are meaningful, else four digits; a count as an integer.

    Only the metric's name decides what is a count: a whole value among others has the decimals of the others.
    """
    if metric in COUNTS:
        return f"{value:.0f}"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"


def named(objectives: Iterable[Objective], values: Iterable[float]) -> list[str]:
    """Return the values of objectives with their names, such as `val/acc 0.9805`, as far as there are values."""
    return [f"{one.name} {number(value, one.name)}" for one, value in zip(objectives, values, strict=False)]


def signed(difference: float, of: float) -> str:
    """Return a difference between values such as `of`, with its sign and as many decimals as these are shown with."""
    text = apart(abs(difference), of)
    return f"-{text}" if difference < 0 and text.strip("0.") else f"+{text}"


def apart(distance: float, of: float) -> str:
    """Return a distance between values such as `of`, with as many decimals as these; with one digit if that is 0.

    A distance within the rounding of single precision is 0.
    """
    shown = number(of)
    if "e" in shown:
        return f"{distance:.4g}"
    text = f"{distance:.{len(shown.partition('.')[2])}f}"
    return text if text.strip("0.") or distance < 1e-6 * abs(of) else f"{distance:.1g}"


def headings(keys: Sequence[str]) -> list[str]:
    """Return the last part of each key, or the whole key if two last parts are equal."""
    lasts = [key.rpartition(".")[2] for key in keys]
    return [last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)]


def in_short(params: Mapping[str, Any]) -> str:
    """Return params on one line; a string is shown without its key."""
    named = zip(headings(list(params)), params.values(), strict=True)
    return "  ".join(mask(value) if isinstance(value, str) else f"{heading}={short(value)}" for heading, value in named)
