"""The live view of a running sweep: a pure function of its counts, for terminals of any width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from besom.reports.format import in_short, number
from besom.sweep.progress.counts import Running, TrialCounts
from besom.workers.devices import Slot
from besom.workers.messages import State

_WIDTH = 140  # in a wider line, related parts are too far apart
_SPARKS = "▁▂▃▄▅▆▇█"
_HEAD = 6  # lines that are not slots


def draw(
    counts: TrialCounts,
    *,
    title: str,
    slots: Sequence[Slot],
    limit: int | None,
    best_params: Mapping[str, Any],
    note: str,
    height: int,
) -> RenderableType:
    """Draw a sweep in at most `height` lines; `note`, unless empty, is the last line.

    `limit` is the number that a trial reaches on the axis of the counts, None if unknown.
    """
    parts = [_title(counts, title), _counts(counts), *_best(counts, best_params), Text()]
    parts.append(_slots(counts, slots, limit, rows=max(2, height - _HEAD - bool(note))))
    if note:
        parts.append(Text(note, style="yellow"))
    return Group(*parts)


def spark(values: Sequence[float], width: int) -> str:
    """Return a sparkline of at most `width` blocks for a sequence of values; "" for fewer than two values."""
    if len(values) < 2:
        return ""
    count = min(width, len(values))
    # The last value of each of `count` equal parts.
    shown = [values[(index + 1) * len(values) // count - 1] for index in range(count)]
    if min(shown) > 0 and max(shown) > 100 * min(shown):
        shown = [math.log(value) for value in shown]
    low, span = min(shown), max(shown) - min(shown)
    if not math.isfinite(span) or span == 0:
        return _SPARKS[0] * count
    return "".join(_SPARKS[min(len(_SPARKS) - 1, int((value - low) / span * len(_SPARKS)))] for value in shown)


def clock(seconds: float) -> str:
    """Return a duration as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _Capped:
    """A renderable with a maximum width."""

    def __init__(self, inner: RenderableType) -> None:
        self._inner = inner

    def __rich_console__(self, console: Any, options: Any) -> Any:
        yield from console.render(self._inner, options.update(width=min(options.max_width, _WIDTH)))


def _line(left: RenderableType, right: RenderableType) -> RenderableType:
    grid = Table.grid(Column(ratio=1, no_wrap=True, overflow="ellipsis"), Column(justify="right", no_wrap=True))
    grid.expand = True
    grid.padding = (0, 1)
    grid.add_row(left, right)
    return _Capped(grid)


def _title(counts: TrialCounts, title: str) -> RenderableType:
    wanted = ", ".join(str(objective) for objective in counts.objectives)
    pace, left = counts.per_minute, counts.left_s
    notes = [f"{pace:.3g} trials/min"] if pace is not None else []
    if left is not None:
        notes.append(f"{clock(left)} left")
    elif not counts.running or not any(running.reached for running in counts.running.values()):
        notes.append("workers are starting …")
    return _line(Text.assemble((title, "bold"), "  ", (wanted, "dim")), Text("  ".join(notes), style="dim"))


def _counts(counts: TrialCounts) -> RenderableType:
    of_total = f"{counts.done}/{counts.total}" if counts.total else f"{counts.done}"
    shares = Text.assemble(
        (f"{of_total} done", "green"),
        (f"  {len(counts.running)} running", "cyan"),
        *[
            (f"  {counts.by_state[state]} {word}", style)
            for state, word, style in ((State.PRUNED, "pruned", "yellow"), (State.FAIL, "failed", "red"))
            if counts.by_state[state]
        ],
    )
    if not counts.total:
        return shares
    bar = ProgressBar(total=counts.total, completed=counts.done, complete_style="green", finished_style="green")
    return _line(bar, shares)


def _best(counts: TrialCounts, params: Mapping[str, Any]) -> list[RenderableType]:
    if len(counts.objectives) > 1:
        front = len(counts.front)
        line = f"{front} on the Pareto front: trials " + ", ".join(map(str, counts.front.trials[-8:])) if front else "…"
        return [_line(Text.assemble(("best ", "dim"), (line, "bold green" if front else "dim")), Text())]
    if counts.best is None:
        return [_line(Text("best  none yet", style="dim"), Text())]
    trial, value = counts.best
    shown = number(value, counts.objectives[0].name)
    best = Text.assemble(
        ("best ", "dim"), (shown, "bold green"), (f"  trial {trial}  ", "dim"), in_short(params),
    )  # fmt: skip
    return [_line(best, Text(spark(counts.best_values, 24), style="green"))]


def _slots(counts: TrialCounts, slots: Sequence[Slot], limit: int | None, *, rows: int) -> RenderableType:
    by_slot: dict[int, dict[int, Running]] = {}
    for trial, running in counts.running.items():
        by_slot.setdefault(running.slot.index, {})[trial] = running
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in ("slot", "trial", "time"):
        table.add_column(name, justify="left" if name == "slot" else "right", no_wrap=True)
    table.add_column(counts.axis, no_wrap=True)
    followed = next((objective for objective in counts.objectives if not objective.is_cost), counts.objectives[0])
    table.add_column(followed.name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    shown = sorted(slots, key=lambda slot: (slot.index not in by_slot, slot.index))[: rows - (len(slots) > rows)]
    for slot in sorted(shown, key=lambda slot: slot.index):
        if slot.index in by_slot:
            table.add_row(_name(slot), *_row(counts, by_slot[slot.index], limit))
        else:
            table.add_row(_name(slot), "·", style="dim")
    if len(slots) <= rows:
        return table
    return Group(table, Text(f"… and {len(slots) - len(shown)} slots more", style="dim"))


def _row(counts: TrialCounts, bundle: Mapping[int, Running], limit: int | None) -> list[RenderableType]:
    """Return the cells of a slot: those of its trial, or of the best trial in its bundle."""
    trial = counts.ahead(bundle)
    running, others = bundle[trial], len(bundle) - 1
    reached: RenderableType = Text(str(running.reached))
    if limit:
        reached = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=limit, completed=running.reached, width=14, complete_style="cyan")
        reached.add_row(bar, f"{running.reached}/{limit}")
    leads = counts.leads(running.value)
    value = Text("" if running.value is None else number(running.value), style="bold green" if leads else "")
    again = f"attempt {running.attempt + 1}" if running.attempt else ""
    mark = Text.assemble(("▲ best so far" if leads else "", "green"), "  " * (leads and bool(again)), (again, "yellow"))
    return [
        f"{trial} +{others}" if others else str(trial),
        Text(clock(counts.seconds_since(running.since_s)), style="dim"),
        reached,
        value,
        mark,
    ]


def _name(slot: Slot) -> Text:
    indices = ",".join(device.index for device in slot.devices)
    device = f"gpu:{indices}" if slot.device.kind == "gpu" else slot.device.kind
    return Text.assemble(f"{slot.index}", (f"  {device}", "dim"))
