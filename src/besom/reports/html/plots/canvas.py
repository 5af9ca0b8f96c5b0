"""The common parts of a report's plots: frames with ticks, marks linked to trials, colors by rank.

The page's style sheet colors them by their CSS classes, in light and dark mode; its script shows the trial in an
element's `data-t`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from besom.config.objectives import Objective
from besom.reports.format import short
from besom.svg.axis import Axis
from besom.svg.panel import Panel, shown

LETTER = 6.2
"""The approximate width of a letter in a label."""

_TURN, _TURNED_APART, _TURNED_LETTERS = -60, 14.0, 14  # degrees, units between two labels, letters of one


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot with its title; `note` explains how to read it."""

    title: str
    svg: str
    note: str = ""
    wide: bool = True


def drawing(width: float, height: float, content: str, *, title: str, description: str) -> str:
    """Return an SVG element of that size."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{shown(title)}" style="--w:{width:g}px">'
        f"<desc>{shown(description)}</desc>{content}</svg>"
    )


def text(x: float, y: float, words: str, *, kind: str = "", anchor: str = "middle", turn: int = 0) -> str:
    """Return a label."""
    more = f' class="{kind}"' if kind else ""
    more += f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{shown(words)}</text>'


def frame(panel: Panel, across: Axis, up: Axis, *, x_label: str = "", y_label: str = "") -> str:
    """Return grid lines, tick labels and axis labels."""
    lines, labels = [], []
    ticks, turn = across_ticks(panel, across)
    for value, words in ticks:
        x = panel.x(across, value)
        lines.append(f"M{x:.1f} {panel.top:.1f}V{panel.bottom:.1f}")
        if turn:
            labels.append(text(x + 4, panel.bottom + 12, words, anchor="end", turn=turn))
        else:
            labels.append(text(x, panel.bottom + 15, words))
    for value, words in up.ticks:
        y = panel.y(up, value)
        lines.append(f"M{panel.left:.1f} {y:.1f}H{panel.right:.1f}")
        labels.append(text(panel.left - 6, y + 4, words, anchor="end"))
    if x_label:
        labels.append(text(panel.left + panel.width / 2, panel.bottom + 32, x_label, kind="axis"))
    if y_label:
        middle = panel.top + panel.height / 2
        labels.append(text(panel.left - 44, middle, y_label, kind="axis", turn=-90))
    return f'<path class="grid" d="{"".join(lines)}"/>{"".join(labels)}'


def across_ticks(panel: Panel, axis: Axis) -> tuple[list[tuple[float, str]], int]:
    """Return the ticks of a horizontal axis with labels clipped to the room, and the labels' rotation in degrees.

    Labels that do not fit side by side are rotated; if they still do not fit, only every second or third is kept.
    """
    ticks = list(axis.ticks)
    room = panel.width / max(1, len(ticks))
    if all(LETTER * len(words) <= room for _, words in ticks) or len(ticks) < 2:
        return [(value, clipped(words, int(panel.width / LETTER))) for value, words in ticks], 0
    shown = ticks[:: -(-len(ticks) // max(1, int(panel.width / _TURNED_APART)))]
    last_letters = zip(*(reversed(words) for _, words in ticks), strict=False)
    alike = sum(
        1 for _ in takewhile(lambda letters: len(set(letters)) == 1, last_letters)
    )  # a common ending carries no information
    ends = [f"{words[:-alike]}…" if alike > 1 and len(words) > _TURNED_LETTERS else words for _, words in shown]
    return [(value, clipped(words, _TURNED_LETTERS)) for (value, _), words in zip(shown, ends, strict=True)], _TURN


def labels_below(panel: Panel, axis: Axis) -> float:
    """Return the height of the labels below a panel."""
    ticks, turn = across_ticks(panel, axis)
    if not turn:
        return 24.0
    longest = max(len(words) for _, words in ticks)
    return 18.0 + LETTER * longest * abs(math.sin(math.radians(turn)))


def dot(x: float, y: float, trial: int, kind: str, *, radius: float = 3.5, style: str = "") -> str:
    """Return the mark of a trial, or an empty text if it is not finite."""
    if not (math.isfinite(x) and math.isfinite(y)):
        return ""
    more = f' style="{style}"' if style else ""
    return f'<circle class="{kind}" data-t="{trial}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"{more}/>'


def cross(x: float, y: float, trial: int, kind: str) -> str:
    """Return the mark of a trial without a value."""
    return f'<path class="{kind}" data-t="{trial}" d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6"/>'


def ranks(values: Mapping[int, float], objective: Objective) -> dict[int, float]:
    """Return the rank of each trial's value: 0 for the worst, 1 for the best, equal values alike."""
    ordered = sorted(set(values.values()), reverse=objective.direction == "minimize")
    places = {value: place / max(1, len(ordered) - 1) for place, value in enumerate(ordered)}
    return {trial: places[value] for trial, value in values.items()}


def shade(rank: float) -> str:
    """Return the style of a mark with that rank, from which the page mixes its color."""
    return f"--v:{100 * rank:.0f}%"


def clipped(words: str, letters: int) -> str:
    """Return the text, or its last `letters`: the end of a dotted key is most informative."""
    return words if len(words) <= letters else f"…{words[-letters + 1 :]}"


def beyond(values: Sequence[float], axis: Axis) -> str:
    """Return a note on the values outside the axis, which are drawn at its end."""
    outside = [value for value in values if not axis.low <= value <= axis.high]
    if not outside:
        return ""
    worst = max(outside, key=lambda value: abs(value - axis.low))
    many = f"{len(outside)} trials lie" if len(outside) > 1 else "1 trial lies"
    return f"{many} beyond the frame, at {'up to ' * (len(outside) > 1)}{short(worst)}, drawn at its edge."
