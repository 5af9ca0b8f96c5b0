"""The end of a sweep: who won, by how much over the other families, and what to type next."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trial of a leaderboard."""

    trial: int
    value: float
    family: str
    params: Mapping[str, Any]
    duration_s: float
    run_id: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a study came to: complete trials, best first, and why the others failed."""

    study: str
    objective: str
    rows: tuple[Row, ...]
    failures: Mapping[str, int]

    @property
    def best(self) -> Row | None:
        """The best trial, if any is complete."""
        return self.rows[0] if self.rows else None

    def best_by_family(self) -> tuple[Row, ...]:
        """The best trial of each model family, best first."""
        seen: dict[str, Row] = {}
        for row in self.rows:
            seen.setdefault(row.family, row)
        return tuple(seen.values())


def summarize(
    study: optuna.Study, trials: Iterable[FrozenTrial], objective: str, run_ids: Mapping[int, str]
) -> Summary:
    """Read those trials of a study that count into a summary; `run_ids` has their runs by trial number."""
    rows, failures = [], Counter[str]()
    for trial in trials:
        about = trial.user_attrs.get("besom", {})
        if trial.state is TrialState.COMPLETE and trial.value is not None:
            rows.append(
                Row(
                    trial=trial.number,
                    value=trial.value,
                    family=about.get("family", "?"),
                    params={key.partition(" ")[0]: value for key, value in trial.params.items()},
                    duration_s=about.get("duration_s") or 0.0,
                    run_id=run_ids.get(trial.number, ""),
                )
            )
        elif trial.state is TrialState.FAIL:
            failures[about.get("reason", "unknown")] += 1
    maximize = study.direction is optuna.study.StudyDirection.MAXIMIZE
    rows.sort(key=lambda row: row.value, reverse=maximize)
    return Summary(study=study.study_name, objective=objective, rows=tuple(rows), failures=failures)


def render(summary: Summary, console: Console) -> RenderableType:
    """The leaderboard, the best of each family side by side, and the failures."""
    parts: list[RenderableType] = []
    if summary.rows:
        leaders = _leaders(summary, spread=True)
        fits = Measurement.get(console, console.options.update(max_width=1000), leaders).maximum <= console.width
        parts += [leaders if fits else _leaders(summary, spread=False), Text()]
    families = summary.best_by_family()
    if len(families) > 1:
        parts += [_families(summary.objective, families), Text()]
    for reason, count in sorted(summary.failures.items(), key=lambda item: -item[1]):
        parts.append(Text(f"{count} failed: {reason}", style="red"))
    return Group(*parts)


def _leaders(summary: Summary, *, spread: bool) -> Table:
    """The leaders: a column per param, or all params in one where the terminal is too narrow for that."""
    rows = summary.rows[:SHOWN]
    keys = list(dict.fromkeys(key for row in rows for key in row.params if key != "model"))
    table = Table(title=f"leaders of {summary.study}, {len(summary.rows)} complete", title_justify="left", box=None)
    for name in ("trial", summary.objective):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("model", no_wrap=True)
    for heading in _headings(keys) if spread else ["params"]:
        table.add_column(heading)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("run", no_wrap=True)
    for index, row in enumerate(rows):
        cells = [short(row.params.get(key, "·")) for key in keys]
        if not spread:
            named = zip(_headings(keys), cells, strict=True)
            cells = ["  ".join(f"{heading} {cell}" for heading, cell in named if cell != "·")]
        table.add_row(
            str(row.trial), f"{row.value:.4f}", row.family, *cells, f"{row.duration_s:.1f} s", row.run_id[:8],
            style="bold" if index == 0 else "",
        )  # fmt: skip
    return table


def _families(objective: str, families: Sequence[Row]) -> Table:
    table = Table(title="best of each model", title_justify="left", box=None)
    table.add_column("")
    for row in families:
        table.add_column(row.family)
    table.add_row(objective, *[f"{row.value:.4f}" for row in families], style="bold")
    for key in dict.fromkeys(key for row in families for key in row.params if key != "model"):
        table.add_row(key, *[short(row.params.get(key, "·")) for row in families])
    table.add_row("time", *[f"{row.duration_s:.1f} s" for row in families])
    table.add_row("trial", *[str(row.trial) for row in families])
    return table


def _headings(keys: Sequence[str]) -> list[str]:
    """The last part of each key, or the whole key where two would read the same."""
    lasts = [key.rpartition(".")[2] for key in keys]
    return [last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)]


def short(value: Any) -> str:
    """A param as a cell: floats to three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def next_steps(console: Console, best: Row) -> None:
    """Print what to type next; as make targets where make started us."""
    by_make = "MAKELEVEL" in os.environ
    ui = "make ui" if by_make else "besom ui"
    again = f"make reproduce RUN={best.run_id}" if by_make else f"besom reproduce {best.run_id}"
    for command, purpose in ((ui, "browse and compare the runs"), (again, "train the best again and compare")):
        text = Text.assemble("  ", (command.ljust(len(again)), "bold cyan"), f"   {purpose}")
        console.print(text, soft_wrap=True)
