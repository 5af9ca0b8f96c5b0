"""The messages at the beginning and at the end of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from besom.errors import BesomError, Interrupted
from besom.reports.read.finalists import Finalists, to_come
from besom.reports.read.report import Report
from besom.reports.text.finalists_table import render_finalists, verdict
from besom.reports.text.leaderboard import Row, Summary, next_steps, places, render, render_short, study_flags
from besom.reports.text.terminal import compared
from besom.secrets.masks import mask
from besom.sweep.dry_run.learning import Learning
from besom.sweep.finalists.choose import describe
from besom.sweep.space.search_space import SearchSpace
from besom.sweep.spec import SweepSpec, storage_url
from besom.sweep.study.config import changes_since_it_began, number_of
from besom.sweep.study.study import StudyBook
from besom.system.console import warn
from besom.tracking.store import Location
from besom.workers.devices import Slot


def announce(console: Console, spec: SweepSpec, space: SearchSpace, slots: Sequence[Slot], book: StudyBook) -> None:
    """Print the sweep's study, remaining trials, devices and search space."""
    if spec.quiet:
        return
    total = book.total
    left = max(0, total - book.done) if total is not None else None
    todo = {None: f"{book.done} trials done, no end", 0: f"all {total} trials are done"}.get(
        left, f"{left} of {total} trials to go"
    )
    devices = f"{len(slots)} x {slots[0]}, {slots[0].threads} thread(s) each"
    if (members := spec.devices.members(slots, spec.budget, learns=spec.search.learns)) > 1:
        devices += f", up to {members} trials at once in each" + " if that is faster" * (spec.devices.bundle == "auto")
    goal = ", ".join(map(str, spec.search.objectives))
    console.print(Text.assemble("study ", (spec.study_name, "bold"), f": {goal}; {todo}"))
    console.print(f"devices: {devices}", highlight=False, markup=False)
    console.print(f"search space: {', '.join(space.keys) or 'a function'}", highlight=False, markup=False)
    if spec.finalists is not None:
        console.print(f"finalists: {describe(spec.finalists)}", highlight=False, markup=False)


def warn_of_changes(console: Console, shared: Mapping[str, Any], book: StudyBook) -> int:
    """Warn if the config has changed since the study began; return the config's number in the study."""
    number = number_of(book, shared, keep=book.total is None or book.done < book.total)
    changes = changes_since_it_began(book, shared, number)
    if changes and book.done:
        warn(
            console,
            f"since the study began, {', '.join(changes)}; trials that are done keep what they had, "
            f"and leaders and report show which have config {number} (a study of its own: "
            "hydra.sweeper.study_name=NAME)",
        )
    return number


def warn_of_chance(console: Console, spec: SweepSpec, limit: int | None) -> None:
    """Warn if the sampler's model chooses fewer than half of the trials, and the rest are drawn at random."""
    learning = Learning.of(spec, limit)
    if learning is not None and learning.warning is not None and not spec.quiet:
        warn(console, learning.warning)


def warn_left_out(console: Console, row: Row, why: str) -> None:
    """Warn that a trial is not among the finalists, since its config is not available."""
    warn(console, f"hydra.sweeper.finalists: trial {row.trial}, of config {row.config or 1}, is left out: {why}")


def print_results(
    console: Console,
    summary: Summary,
    spec: SweepSpec,
    book: StudyBook,
    failure: Exception | None,
    *,
    location: Location,
    logs: Path,
    finalists: Finalists | None = None,
    kept: tuple[Report, Path] | None = None,
    registered: str = "",
    recorded: bool = True,
) -> None:
    """Print the results of a sweep, the paths and URLs of its files and runs, and the next commands.

    `kept` is the report and its path, `registered` the winner's name in the registry; `recorded` is false with
    `tracking=none`.

    Raises `failure`, and BesomError when no trial, or none of the finalists, is complete.
    """
    console.print(render_short(summary) if spec.quiet else render(summary, console))
    if finalists is not None:
        table = Text(verdict(finalists)) if spec.quiet else render_finalists(finalists, console)
        console.print(table, soft_wrap=spec.quiet)
    _print_remaining(console, summary, book, failure, patience=spec.budget.patience)
    if failure is not None:
        raise failure
    best = _best_row(summary, finalists, spec.study_name)
    if not spec.quiet:
        storage = mask(str(spec.storage or storage_url(location.directory)))
        runs = {"runs": mask(location.uri)} if best.run_id else {}
        model = {"model": registered} if registered else {}
        places(console, {"study": storage, **runs, "log": str(logs / "sweep.log"), **_report_places(kept), **model})
        url = spec.storage if isinstance(spec.storage, str) else None
        next_steps(console, best, summary, flags=study_flags(location.directory, url))
        console.print(f"study {spec.study_name}", highlight=False)
    lacking = f"none (MLflow has no run of trial {best.trial} any more)" if recorded else "none (tracking=none)"
    console.print(f"best run {best.run_id or lacking}", highlight=False)


def _print_remaining(
    console: Console, summary: Summary, book: StudyBook, failure: Exception | None, *, patience: int | None
) -> None:
    """Print why the sweep stopped, and how many trials and finalists' runs remain."""
    total = book.total
    if total is not None and summary.over < total and not book.ran_out_of_patience:
        rest = f"{total - summary.over} of {total} trials are to come; the same command goes on from there"
        console.print(f"stopped: {rest}", highlight=False)
    left, wanted = to_come(book.study.user_attrs)
    if left and isinstance(failure, Interrupted):
        rest = f"{left} of the finalists' {wanted} runs are not recorded yet; the same command goes on from there"
        console.print(f"stopped: {rest}", highlight=False, soft_wrap=True)
    if book.ran_out_of_patience:
        console.print(f"stopped: no better trial among the last {patience}", highlight=False)


def _best_row(summary: Summary, finalists: Finalists | None, study_name: str) -> Row:
    """Return the champion among the finalists, or else the best trial.

    Raises BesomError when no trial, or none of the finalists, is complete.
    """
    if summary.best is None:
        lacking = "feasible" if summary.rows else "complete"
        pruned = str(summary.pruned) if summary.pruned.count else "none was run"
        reason = next((group.reason for group in summary.failures), pruned)
        raise BesomError(
            f"study {study_name}: no trial is {lacking} ({reason}); mend it, "
            "and start anew with hydra.sweeper.study_name=NAME"
        )
    if finalists is not None and finalists.winner is None:
        runs = (run for finalist in finalists.finalists for run in finalist.runs)
        reason = next(run.reason for run in runs if run.reason is not None)
        raise BesomError(f"study {study_name}: no finalist is complete ({reason}); the same command tries again")
    return (finalists.champion if finalists else None) or summary.best


def _report_places(kept: tuple[Report, Path] | None) -> dict[str, str]:
    if kept is None:
        return {}
    report, path = kept
    link = compared(report)
    return {"report": str(path), **({"compare": link} if link else {})}
