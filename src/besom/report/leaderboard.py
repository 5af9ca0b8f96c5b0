"""The end of a sweep: who won, by how much over the other families, and what to type next."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from besom.sweep.study import finished_trials

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


def summarize(study: optuna.Study, objective: str, run_ids: Mapping[int, str]) -> Summary:
    """Read a study's trials into a summary."""
    rows, failures = [], Counter[str]()
    for trial in finished_trials(study):
        about = trial.user_attrs.get("besom", {})
        if trial.state is TrialState.COMPLETE and trial.value is not None:
            rows.append(
                Row(
                    trial=trial.number,
                    value=trial.value,
                    family=about.get("family", "?"),
                    params=trial.params,
                    duration_s=about.get("duration_s") or 0.0,
                    run_id=run_ids.get(trial.number, ""),
                )
            )
        elif trial.state is TrialState.FAIL:
            failures[about.get("reason", "unknown")] += 1
    maximize = study.direction is optuna.study.StudyDirection.MAXIMIZE
    rows.sort(key=lambda row: row.value, reverse=maximize)
    return Summary(study=study.study_name, objective=objective, rows=tuple(rows), failures=failures)


def render(summary: Summary) -> RenderableType:
    """The leaderboard, the best of each family side by side, and the failures."""
    parts: list[RenderableType] = []
    if summary.rows:
        parts += [_leaders(summary), Text()]
    families = summary.best_by_family()
    if len(families) > 1:
        parts += [_families(summary.objective, families), Text()]
    for reason, count in sorted(summary.failures.items(), key=lambda item: -item[1]):
        parts.append(Text(f"{count} failed: {reason}", style="red"))
    return Group(*parts)


def _leaders(summary: Summary) -> Table:
    rows = summary.rows[:SHOWN]
    keys = list(dict.fromkeys(key for row in rows for key in row.params))
    table = Table(title=f"leaders of {summary.study}, {len(summary.rows)} complete", title_justify="left", box=None)
    for name in ("trial", summary.objective, *(key.removeprefix("model.") for key in keys), "time", "run"):
        table.add_column(name, justify="right" if name in ("trial", summary.objective, "time") else "left")
    for index, row in enumerate(rows):
        cells = [short(row.params.get(key, "")) for key in keys]
        table.add_row(
            str(row.trial), f"{row.value:.4f}", *cells, f"{row.duration_s:.1f} s", row.run_id[:8],
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


def short(value: Any) -> str:
    """A param as a cell: floats to three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def next_steps(console: Console, best: Row) -> None:
    """Print what to type next; as make targets where make started us."""
    by_make = "MAKELEVEL" in os.environ
    commands = {
        "make ui" if by_make else "besom ui": "browse and compare the runs",
        f"make reproduce RUN={best.run_id}"
        if by_make
        else f"besom reproduce {best.run_id}": "train the best again and compare",
    }
    width = max(map(len, commands))
    for command, purpose in commands.items():
        console.print(Text.assemble("  ", (command.ljust(width), "bold cyan"), f"   {purpose}"), soft_wrap=True)
