"""A Gantt chart of the trials by slot."""

from __future__ import annotations

from besom.reports.html.plots.canvas import Picture, drawing, text
from besom.reports.read.report import Report
from besom.svg.axis import axis_of
from besom.svg.panel import Panel

_SLOT = 26


def gantt(report: Report) -> Picture | None:
    """Draw the stints of each slot; None if no trial has a slot."""
    found = report.timetable
    if not found.stints or not found.swept_s:
        return None
    unit, seconds = next(
        ((name, size) for name, size in (("h", 3600), ("min", 60)) if found.swept_s > 3 * size), ("s", 1)
    )
    slots = found.slots
    panel = Panel(left=64, top=6, width=760, height=_SLOT * len(slots))
    across = axis_of([0, found.swept_s / seconds])
    parts = []
    for value, words in across.ticks:
        x = panel.x(across, value)
        parts.append(f'<path class="grid" d="M{x:.1f} {panel.top}V{panel.bottom}"/>{text(x, panel.bottom + 15, words)}')
    for pause_s in found.pauses_s:
        x = panel.x(across, pause_s / seconds)
        parts.append(f'<path class="pause" d="M{x:.1f} {panel.top}V{panel.bottom}"/>')
    members = {slot: 1 + max(stint.member for stint in found.stints if stint.slot == slot) for slot in slots}
    for stint in found.stints:
        row, height = slots.index(stint.slot), (_SLOT - 6) / members[stint.slot]
        left, right = (panel.x(across, moment / seconds) for moment in (stint.began_s, stint.ended_s))
        y = panel.top + _SLOT * row + 3 + height * stint.member
        parts.append(
            f'<rect class="stint {stint.state.name.lower()}" data-t="{stint.trial}" x="{left:.2f}" y="{y:.1f}" '
            f'width="{max(0.8, right - left - 0.4):.2f}" height="{height:.1f}"/>'
        )
    for row, slot in enumerate(slots):
        y = panel.top + _SLOT * row + _SLOT / 2 + 4
        parts.append(text(panel.left - 8, y, f"slot {slot}", anchor="end"))
        parts.append(text(panel.right + 8, y, f"{100 * found.busy(slot):.0f} %", anchor="start"))
    parts.append(text(panel.left + panel.width / 2, panel.bottom + 32, f"{unit} of sweeping", kind="axis"))
    title = "what each slot trained when"
    told = f"{len(found.stints)} trials in {len(slots)} slots over {found.swept_s:.1f} s"
    note = "At the right, the share of the time in which a slot trained."
    note += " Dashed: the sweep was stopped there, and taken up later." if found.pauses_s else ""
    note += " A slot with several rows trained that many trials in one pass." if max(members.values()) > 1 else ""
    return Picture(
        title=title,
        svg=drawing(900, panel.bottom + 40, "".join(parts), title=title, description=told),
        note=note,
    )
