"""The ticks of a panel: their labels, rotated if they do not fit side by side, and grid lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile

from besom.svg.axis import Axis
from besom.svg.marks import LETTER, clipped, text
from besom.svg.panel import Panel

_TURN, _TURNED_APART, _TURNED_LETTERS = -60, 14.0, 14  # degrees, units between two labels, letters of one
_EDGE = 6.0  # from the left of the figure to the middle of a vertical axis label


def x_labels(panel: Panel, axis: Axis, name: str = "") -> str:
    """Return the tick labels below a panel, and the axis label below these."""
    ticks, turn = _x_ticks(panel, axis)
    labels = [
        text(panel.x(axis, value) + 4, panel.bottom + 12, words, anchor="end", turn=turn)
        if turn
        else text(panel.x(axis, value), panel.bottom + 15, words)
        for value, words in ticks
    ]
    if name:
        labels.append(text(panel.left + panel.width / 2, panel.bottom + 32, name, class_="axis"))
    return "".join(labels)


def y_labels(panel: Panel, axis: Axis, name: str = "") -> str:
    """Return the tick labels on the left of a panel, and the axis label on the left of these."""
    labels = [text(panel.left - 6, panel.y(axis, value) + 4, words, anchor="end") for value, words in axis.ticks]
    if name:
        longest = max((len(words) for _, words in axis.ticks), default=0)
        x = max(_EDGE, min(panel.left - 44, panel.left - 18 - LETTER * longest))
        labels.append(text(x, panel.top + panel.height / 2, name, turn=-90, class_="axis"))
    return "".join(labels)


def grid(panel: Panel, across: Axis, up: Axis | None = None) -> str:
    """Return the data of a path along the ticks of a horizontal axis and, if given, of a vertical one."""
    lines = [
        f"M{panel.x(across, value):.1f} {panel.top:.1f}V{panel.bottom:.1f}" for value, _ in _x_ticks(panel, across)[0]
    ]
    lines += [f"M{panel.left:.1f} {panel.y(up, value):.1f}H{panel.right:.1f}" for value, _ in up.ticks] if up else []
    return "".join(lines)


def height_of_x_labels(panel: Panel, axis: Axis) -> float:
    """Return the height of the tick labels below a panel."""
    ticks, turn = _x_ticks(panel, axis)
    if not turn:
        return 24.0
    longest = max(len(words) for _, words in ticks)
    return 18.0 + LETTER * longest * abs(math.sin(math.radians(turn)))


def _x_ticks(panel: Panel, axis: Axis) -> tuple[Sequence[tuple[float, str]], int]:
    """Return the ticks of a horizontal axis with labels clipped to the room, and the labels' rotation in degrees.

    Labels that do not fit side by side are rotated; if they still do not fit, only every second or third is kept.
    """
    ticks = axis.ticks
    room = panel.width / max(1, len(ticks))
    if all(LETTER * len(words) <= room for _, words in ticks) or len(ticks) < 2:
        return [(value, clipped(words, int(panel.width / LETTER))) for value, words in ticks], 0
    last_letters = zip(*(reversed(words) for _, words in ticks), strict=False)
    alike = sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, last_letters))
    shown = ticks[:: -(-len(ticks) // max(1, int(panel.width / _TURNED_APART)))]
    if alike > 1:  # a common ending carries no information
        shown = [(value, f"{words[:-alike]}…" if len(words) > _TURNED_LETTERS else words) for value, words in shown]
    return [(value, clipped(words, _TURNED_LETTERS)) for value, words in shown], _TURN
