"""Parameter importances as bars."""

from __future__ import annotations

from collections.abc import Mapping

from besom.reports.html.plots.canvas import LETTER, Picture, clipped, drawing, text

_SHOWN = 12
_LETTERS = 60


def importance_bars(shares: Mapping[str, float], objectives: str) -> Picture | None:
    """Draw each parameter's importance, the largest first; None if there are none."""
    found = [(clipped(key, _LETTERS), share) for key, share in shares.items() if share >= 0.005][:_SHOWN]
    if not found:
        return None
    left = 14 + LETTER * max(len(key) for key, _ in found)
    width, longest = 900 - left - 60, max(share for _, share in found)
    parts = []
    for row, (key, share) in enumerate(found):
        y, length = 6 + 24 * row, max(2.0, width * share / longest)
        parts.append(text(left - 8, y + 13, key, anchor="end"))
        parts.append(f'<rect class="bar" x="{left:.1f}" y="{y}" width="{length:.1f}" height="17" rx="2"/>')
        parts.append(text(left + length + 7, y + 13, f"{100 * share:.0f} %", anchor="start"))
    title = f"share of each parameter in {objectives}"
    told = ", ".join(f"{key} {100 * share:.0f} %" for key, share in found)
    return Picture(title=title, svg=drawing(900, 10 + 24 * len(found), "".join(parts), title=title, description=told))
