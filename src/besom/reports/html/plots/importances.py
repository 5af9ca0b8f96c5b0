"""Parameter importances as bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from besom.reports.html.plots.canvas import Picture
from besom.reports.read.report import Report
from besom.svg.marks import LETTER, clipped, rect, text

_SHOWN = 12
_LETTERS = 60
_LEAST = 0.005


@dataclass(frozen=True, kw_only=True)
class _Importances:
    """The data of the plot: (parameter, importance), the largest first, for these objectives."""

    objectives: str
    shares: Sequence[tuple[str, float]]


def importances(report: Report) -> list[Picture]:
    """Draw the importance of each parameter, if any is known."""
    return [_draw(data) for data in _read(report)]


def _read(report: Report) -> Iterator[_Importances]:
    found = report.summary.importances.shares
    shares = [(clipped(key, _LETTERS), share) for key, share in found.items() if share >= _LEAST]
    if shares:
        named = " and ".join(objective.name for objective in report.objectives)
        yield _Importances(objectives=named, shares=shares[:_SHOWN])


def _draw(data: _Importances) -> Picture:
    left = 14 + LETTER * max(len(key) for key, _ in data.shares)
    scale = (900 - left - 60) / max(share for _, share in data.shares)
    parts = []
    for row, (key, share) in enumerate(data.shares):
        y, length = 6 + 24 * row, max(2.0, scale * share)
        parts.append(text(left - 8, y + 13, key, anchor="end"))
        parts.append(rect(left, y, length, 17, class_="bar", rx=2))
        parts.append(text(left + length + 7, y + 13, f"{100 * share:.0f} %", anchor="start"))
    return Picture(
        title=f"share of each parameter in {data.objectives}",
        height=10 + 24 * len(data.shares),
        parts=parts,
        description=", ".join(f"{key} {100 * share:.0f} %" for key, share in data.shares),
    )
