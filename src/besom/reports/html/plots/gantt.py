"""A Gantt chart of the trials by slot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from besom.reports.html.plots.canvas import Picture, frame
from besom.reports.read.report import Report
from besom.reports.read.timetable import Stint, Timetable
from besom.svg.axis import Axis, axis_of
from besom.svg.marks import path, rect, text
from besom.svg.panel import Panel

_SLOT = 26
_UNITS = {"h": 3600, "min": 60, "s": 1}


@dataclass(frozen=True, kw_only=True)
class _Gantt:
    """The data of the plot: the timetable, the number of rows of each slot, and the unit of the time axis."""

    timetable: Timetable
    rows: Mapping[int, int]
    unit: str
    across: Axis
    panel: Panel

    def x(self, moment_s: float) -> float:
        """Return the x coordinate of a time."""
        return self.panel.x(self.across, moment_s / _UNITS[self.unit])


def gantt(report: Report) -> list[Picture]:
    """Draw the stints of each slot, if any trial has a slot."""
    return [_draw(data) for data in _read(report)]


def _read(report: Report) -> Iterator[_Gantt]:
    found = report.timetable
    if not found.stints or not found.swept_s:
        return
    unit = next((unit for unit, seconds in _UNITS.items() if found.swept_s > 3 * seconds), "s")
    yield _Gantt(
        timetable=found,
        rows={slot: 1 + max(stint.member for stint in found.stints if stint.slot == slot) for slot in found.slots},
        unit=unit,
        across=axis_of([0, found.swept_s / _UNITS[unit]]),
        panel=Panel(left=64, top=6, width=760, height=_SLOT * len(found.slots)),
    )


def _draw(data: _Gantt) -> Picture:
    panel, found = data.panel, data.timetable
    parts = [frame(panel, data.across, x_label=f"{data.unit} of sweeping")]
    for pause_s in found.pauses_s:
        parts.append(path(f"M{data.x(pause_s):.1f} {panel.top}V{panel.bottom}", class_="pause"))
    parts += [_stint(data, stint) for stint in found.stints]
    for row, slot in enumerate(data.rows):
        y = panel.top + _SLOT * row + _SLOT / 2 + 4
        parts.append(text(panel.left - 8, y, f"slot {slot}", anchor="end"))
        parts.append(text(panel.right + 8, y, f"{100 * found.busy(slot):.0f} %", anchor="start"))
    note = "At the right, the share of the time in which a slot trained."
    note += " Dashed: the sweep was stopped there, and taken up later." if found.pauses_s else ""
    note += " A slot with several rows trained that many trials in one pass." if max(data.rows.values()) > 1 else ""
    return Picture(
        title="what each slot trained when",
        height=panel.bottom + 40,
        parts=parts,
        description=f"{len(found.stints)} trials in {len(data.rows)} slots over {found.swept_s:.1f} s",
        note=note,
    )


def _stint(data: _Gantt, stint: Stint) -> str:
    height = (_SLOT - 6) / data.rows[stint.slot]
    y = data.panel.top + _SLOT * list(data.rows).index(stint.slot) + 3 + height * stint.member
    left, right = data.x(stint.began_s), data.x(stint.ended_s)
    state = stint.state.name.lower()
    return rect(left, y, max(0.8, right - left - 0.4), height, class_=f"stint {state}", data_t=stint.trial)
