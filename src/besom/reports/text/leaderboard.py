"""The summary at the end of a sweep: leaders, importances, failures, paths and links, next commands."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from besom.reports.format import headings, in_short, named, number, short
from besom.reports.read.importance import FANOVA
from besom.reports.read.summary import UNKNOWN, Row, Summary, summarize
from besom.secrets.masks import mask
from besom.system.urls import quoted

__all__ = ["Row", "Summary", "next_steps", "places", "render", "render_short", "study_flags", "summarize"]

_SHOWN = 8
_IMPORTANT, _BAR = 6, 24


def render(summary: Summary, console: Console) -> RenderableType:
    """Return the leaderboard or Pareto front, the best of each family, importances, pruned and failed trials."""
    parts: list[RenderableType] = []
    if summary.rows:
        leaders = _leaders(summary, spread=True)
        fits = Measurement.get(console, console.options.update(max_width=1000), leaders).maximum <= console.width
        parts += [_heading(_title(summary)), leaders if fits else _leaders(summary, spread=False)]
        parts += [*(Text(line, style="dim") for line in summary.origins), Text()]
    families = summary.best_by_family()
    if len(families) > 1 and len(summary.objectives) == 1:
        parts += [_heading("best of each model"), _families(summary.objectives[0].name, families), Text()]
    if summary.importances.shares:
        parts += [_heading(_mattered(summary)), _importances(summary), Text()]
    if summary.pruned.count:
        parts += [Text(str(summary.pruned), style="yellow"), Text()]
    for group in summary.failures:
        parts.append(Text(str(group), style="red"))
        if group.shared:
            parts.append(Text(f"  {group.shared}", style="yellow"))
    if summary.failures:
        parts.append(Text())
    return Group(*parts)


def render_short(summary: Summary) -> RenderableType:
    """Return the outcome in one line."""
    counts = [f"{len(summary.rows)} complete"]
    counts += [str(summary.pruned)] if summary.pruned.count else []
    counts += [f"{summary.failed} failed"] if summary.failed else []
    best = ""
    if summary.best is not None:
        values = ", ".join(named(summary.objectives, summary.best.values))
        best = f"; best {values} (trial {summary.best.trial})"
    return Text(f"{', '.join(counts)}{best}")


def _heading(text: str) -> Text:
    """Return a line above a table; a table's own title would be wrapped at the table's width."""
    return Text(text, style="table.title")


def _title(summary: Summary) -> str:
    complete = f"{len(summary.rows)} complete{_infeasible(summary)}"
    if len(summary.objectives) > 1:
        return f"Pareto front of {summary.study}: {len(summary.front)} of {complete}"
    return f"leaders of {summary.study}, {complete}"


def _infeasible(summary: Summary) -> str:
    count = sum(not row.feasible for row in summary.rows)
    return f", {count} of them infeasible" if count else ""


def _leaders(summary: Summary, *, spread: bool) -> Table:
    """Return the leaders with a column per param, or without `spread` with all params in one column."""
    several = len(summary.objectives) > 1
    rows = [row for row in summary.rows if row.trial in summary.front] if several else list(summary.rows)
    shown = (rows or list(summary.rows))[: 2 * _SHOWN if several else _SHOWN]
    keys = list(dict.fromkeys(key for row in shown for key in row.params if key != "model"))
    table = Table(box=None)
    for name in ("trial", *(objective.name for objective in summary.objectives)):
        table.add_column(name, justify="right", no_wrap=True)
    has_models = any(row.family not in UNKNOWN for row in shown)
    if has_models:
        table.add_column("model", no_wrap=True)
    origins = [name for name, there in (("config", summary.has_configs), ("code", summary.has_codes)) if there]
    for name in origins:
        table.add_column(name, overflow="fold")
    for heading in headings(keys) if spread else ["params"]:
        table.add_column(heading, overflow="fold")  # a truncated value is useless
    table.add_column("time", justify="right", no_wrap=True)
    has_runs = any(row.run_id for row in shown)
    if has_runs:
        table.add_column("run", no_wrap=True)
    if not all(row.feasible for row in shown):
        table.add_column("", no_wrap=True)
    for row in shown:
        values = [number(value, one.name) for one, value in zip(summary.objectives, row.values, strict=True)]
        cells = [short(row.params.get(key, "·")) for key in keys]
        if not spread:
            cells = [in_short({key: row.params[key] for key in keys if key in row.params})]
        table.add_row(
            str(row.trial), *values, *[row.family] * has_models,
            *(origin(row, name) for name in origins), *cells,
            f"{row.duration_s:.1f} s", *[row.run_id[:8]] * has_runs, *([] if row.feasible else ["infeasible"]),
            style="bold" if row is summary.best else "" if row.feasible else "dim",
        )  # fmt: skip
    return table


def origin(row: Row, column: str) -> str:
    """Return a cell of the column `config` or `code`."""
    return str(row.config or "?") if column == "config" else row.code or "·"


def _families(objective: str, families: Sequence[Row]) -> Table:
    table = Table(box=None)
    table.add_column("")
    for row in families:
        table.add_column(row.family)
    table.add_row(objective, *[number(row.value, objective) for row in families], style="bold")
    for key in dict.fromkeys(key for row in families for key in row.params if key != "model"):
        table.add_row(key, *[short(row.params.get(key, "·")) for row in families])
    table.add_row("time", *[f"{row.duration_s:.1f} s" for row in families])
    table.add_row("trial", *[str(row.trial) for row in families])
    return table


def _mattered(summary: Summary) -> str:
    """Return what the importances are shares of, with the method that tells them."""
    if summary.importances.method == FANOVA:
        return f"what {summary.objectives[0].name} depended on, by {FANOVA}"
    return f"what set the best trials apart, by {summary.importances.method}"


def _importances(summary: Summary) -> Table:
    shown = [(key, share) for key, share in summary.importances.shares.items() if share >= 0.005][:_IMPORTANT]
    table = Table(box=None, show_header=False)
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    for key, share in shown:
        table.add_row(key, Text(bar(share / max(shown[0][1], 1e-9), _BAR), style="cyan"), f"{100 * share:.0f} %")
    return table


def bar(share: float, width: int) -> str:
    """Return a bar in half characters, `width` characters long for a share of 1, and never empty."""
    halves = max(1, round(2 * share * width))
    return "━" * (halves // 2) + "╸" * (halves % 2)


def places(console: Console, found: Mapping[str, str]) -> None:
    """Print paths and links, a line for each name; paths are relative to the current folder."""
    here = f"{Path.cwd()}/"
    for name, place in found.items():
        shown = place.replace(quoted(here), "", 1) if "://" in place else place.removeprefix(here)
        console.print(Text.assemble("  ", (name.ljust(8), "dim"), shown), soft_wrap=True)
    console.print()


def study_flags(directory: Path, storage: str | None = None) -> list[str]:
    """Return the flags with which a command finds a study of this folder, or of this storage's URL."""
    place = Path(os.path.relpath(directory))
    flags = [] if place == Path("mlruns") else [f"--directory={place}"]
    return flags if storage is None else [*flags, f"--storage={mask(storage)}"]


def next_steps(console: Console, best: Row, summary: Summary, *, flags: Sequence[str] = ()) -> None:
    """Print the next commands, as make targets under make; with these `flags` a command finds the study."""
    by_make = "MAKELEVEL" in os.environ
    ui = "make ui" if by_make else "besom ui"
    steps = [(ui, "browse, compare the runs")] if best.run_id else []
    trust = summary.trust_for(best)
    if best.run_id and trust is not None:
        again = f"besom reproduce {' '.join([best.run_id, *trust])}"
        if by_make:
            again = f"make reproduce RUN={best.run_id}" + (f' ARGS="{" ".join(trust)}"' if trust else "")
        steps.append((again, "train the best once more" if summary.app is None else "run the best once more, compare"))
    if not by_make:
        command = shlex.join(["besom", "best", summary.study, *flags])
        words = f"{summary.app} $({command})" if summary.app else command
        steps.append((words, "one job with its values" if summary.app else "its config, to keep"))
    width = max((len(command) for command, _ in steps), default=0)
    for command, purpose in steps:
        text = Text.assemble("  ", (command.ljust(width), "bold cyan"), f"   {purpose}")
        console.print(text, soft_wrap=True)
