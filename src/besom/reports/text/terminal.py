"""A report on the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from besom.reports.read.finalists import Finalists
from besom.reports.read.report import Report
from besom.reports.read.statistics import Estimate
from besom.reports.read.summary import UNKNOWN, Row
from besom.reports.text.finalists_table import render_finalists
from besom.reports.text.headline import answer, facts
from besom.reports.text.leaderboard import next_steps, places, render
from besom.tracking.ui.views import compare_link, run_link


def show(report: Report, console: Console, *, flags: Sequence[str] = ()) -> None:
    """Print the outcome, the facts, the leaderboard, importances, failures, and the next commands.

    With these `flags` a command finds the study.
    """
    console.print(Text(report.study, style="bold"), Text(report.stage, style="dim"))
    for sentence in answer(report):
        console.print(Text(sentence))
    console.print()
    known = facts(report)
    width = max((len(name) for name, _ in known), default=0)
    for name, words in known:
        console.print(Text.assemble("  ", (name.ljust(width), "dim"), f"  {words}"), soft_wrap=True)
    console.print()
    if report.finalists is not None:
        console.print(render_finalists(report.finalists, console, conclude=False))  # the answer contains the verdict
    console.print(render(report.summary, console))
    link = compared(report)
    if link:
        places(console, {"compare": link})
    best = (report.finalists.champion if report.finalists else None) or report.summary.best
    if best is not None:
        next_steps(console, best, report.summary, flags=flags)


def compared(report: Report) -> str:
    """Return the URL of MLflow's page that compares the leaders; empty with fewer than two runs."""
    runs = [row.run_id for row in report.leaders if row.run_id]
    if report.record is None or len(runs) < 2:
        return ""
    return compare_link(report.base, report.record.experiment_id, runs)


def plain(report: Report) -> dict[str, Any]:
    """Return the report as JSON-serializable values: the page's content without the plots."""
    summary, times = report.summary, report.timetable
    return {
        "study": report.study,
        "state": report.stage,
        "answer": answer(report),
        "objectives": [{"name": one.name, "direction": one.direction} for one in report.objectives],
        "n_trials": report.total,
        "trials": dict(report.counts),
        "best": None if summary.best is None else _row(report, summary.best),
        "configs": {str(number): list(changes) for number, changes in summary.configs.items()},
        "leaders": [_row(report, row) for row in report.leaders],
        "best_by_family": [_row(report, row) for row in report.families],
        "front": list(summary.front),
        "importances": dict(summary.importances.shares),
        "importances_by": summary.importances.method or None,
        "failures": [asdict(group) for group in summary.failures],
        "finalists": None if report.finalists is None else _plain_finalists(report.finalists),
        "swept_s": times.swept_s,
        "utilisation": times.utilisation,
        "busy_by_slot": {str(slot): times.busy(slot) for slot in times.slots},
        "facts": dict(facts(report)),
        "compare": compared(report) or None,
    }


def _row(report: Report, row: Row) -> dict[str, Any]:
    link = run_link(report.base, report.record.experiment_id, row.run_id) if report.record and row.run_id else None
    return {
        "trial": row.trial,
        "values": list(row.values),
        "family": None if row.family in UNKNOWN else row.family,
        "params": dict(row.params),
        "config": row.config,
        "code": row.code or None,
        "duration_s": row.duration_s,
        "feasible": row.feasible,
        "run_id": row.run_id or None,
        "link": link,
    }


def _plain_finalists(found: Finalists) -> dict[str, Any]:
    def plain_estimate(estimate: Estimate | None) -> dict[str, Any] | None:
        return None if estimate is None else asdict(estimate)

    test = found.comparison
    return {
        "winner": None if found.winner is None else found.winner.row.trial,
        "baseline": None if found.baseline is None else found.baseline.row.trial,
        "test": None if test is None else {"name": test.name, **asdict(test)},
        "finalists": [
            {
                "trial": one.row.trial,
                "sweep": one.row.value,
                "validation": plain_estimate(one.validation),
                "test": plain_estimate(one.test),
                "optimism": one.optimism,
                "runs": [run.plain() for run in one.runs],
            }
            for one in found.finalists
        ],
    }
