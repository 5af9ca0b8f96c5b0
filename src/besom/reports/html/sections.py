"""The sections of a report's page; a section without content is left out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from besom.config.paths import file_name
from besom.reports.format import named, number
from besom.reports.html.plots.canvas import Picture
from besom.reports.html.plots.contour import contour
from besom.reports.html.plots.curves import curves
from besom.reports.html.plots.gantt import gantt
from besom.reports.html.plots.history import history
from besom.reports.html.plots.importances import importances
from besom.reports.html.plots.intervals import intervals
from besom.reports.html.plots.parallel import parallel
from besom.reports.html.plots.pareto import fronts
from besom.reports.html.plots.slices import slices
from besom.reports.read.failures import FailureGroup
from besom.reports.read.finalists import FinalistRun
from besom.reports.read.importance import ENOUGH, FANOVA
from besom.reports.read.report import Report
from besom.reports.read.summary import UNKNOWN, Row
from besom.reports.tables import Table, finalists_table, trials_table
from besom.reports.text.headline import chosen
from besom.tracking.app_command import is_other_app
from besom.tracking.ui.views import compare_link, has_view, runs_link, study_link

_ROWS = 20
_SLICES = "Every complete trial by one parameter at a time, those that mattered most first; the best is marked."


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page."""

    id: str
    title: str
    lead: str = ""
    tables: tuple[tuple[str, Table], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    pictures: tuple[Picture, ...] = ()
    failures: tuple[FailureGroup, ...] = ()
    again: tuple[tuple[int, str, tuple[tuple[str, str], ...]], ...] = ()
    note: str = ""


def sections(report: Report) -> list[Section]:
    """Return the sections in order; the first, the summary, is filled by the page's template."""
    made = [
        Section(id="summary", title="Summary"),
        _finalists(report),
        _leaderboard(report),
        _plots("pareto", "Pareto front", fronts(report)),
        _plots("history", "History", history(report)),
        _importances(report),
        _plots("parallel", "Parallel coordinates", parallel(report)),
        _plots("slices", "Slices and contours", [*slices(report), *contour(report)], lead=_SLICES),
        _plots("curves", "Learning curves", curves(report)),
        _plots("slots", "Time and devices", gantt(report)),
        _failures(report),
        _again(report),
    ]
    return [section for section in made if section is not None]


def _plots(id: str, title: str, pictures: Sequence[Picture], *, lead: str = "") -> Section | None:
    return Section(id=id, title=title, lead=lead, pictures=tuple(pictures)) if pictures else None


def _finalists(report: Report) -> Section | None:
    found = report.finalists
    if found is None:
        return None
    test = found.comparison
    note = "" if test is None else f"Compared by a {test.name}, paired by seed: {number(test.difference)} "
    if test is not None:
        note += f"[{number(test.low)}, {number(test.high)}], p = {test.p_value:.2g}, {test.count} seeds."
    return Section(
        id="finalists", title="Finalists", tables=(("", finalists_table(found)),), pictures=tuple(intervals(report)),
        lead="The best trials, trained again with fresh seeds and tested. The winner is the best on validation."
        if found.are_tested else "The best trials, run again with fresh seeds. The winner has the best mean.",
        note=note,
    )  # fmt: skip


def _leaderboard(report: Report) -> Section | None:
    rows = report.summary.rows
    if not rows:
        return None
    tables = [("", trials_table(report, rows[:_ROWS]))]
    if report.families:
        tables.append(("best of each model", trials_table(report, report.families)))
    told = f"The best {_ROWS} of {len(rows)} complete trials" if len(rows) > _ROWS else "All complete trials"
    return Section(
        id="leaderboard", title="Leaderboard", tables=tuple(tables), links=tuple(_links(report)),
        lead=f"{told}, with the parameters in which they differ. A click on a heading sorts.",
        note="; ".join(report.summary.origins),
    )  # fmt: skip


def _links(report: Report) -> list[tuple[str, str]]:
    record = report.record
    if record is None:
        return []
    compared = [row.run_id for row in report.leaders if row.run_id]
    every = (
        study_link(report.base, record.experiment_id, report.study)
        if has_view(report.study, record.views)
        else runs_link(report.base, record.experiment_id)
    )
    links = [("all runs in MLflow", every)]
    if len(compared) > 1:
        words = f"compare the {len(compared)} leaders in MLflow"
        links.insert(0, (words, compare_link(report.base, record.experiment_id, compared)))
    return links


def _importances(report: Report) -> Section | None:
    if not report.dimensions:
        return None
    found = importances(report)
    complete = len(report.summary.rows)
    lead = (
        f"By fANOVA: each parameter's share in the variance of {report.objectives[0].name} over the search space."
        if report.summary.importances.method == FANOVA
        else f"By PED-ANOVA: how much a parameter's values differ between the best tenth and all {complete} complete "
        "trials."
    )
    if not found:
        few = complete < ENOUGH
        lead = f"Too few trials to tell: {complete} complete, {ENOUGH} are needed." if few else "Nothing can be told."
    return Section(id="importances", title="What mattered", lead=lead, pictures=tuple(found))


def _failures(report: Report) -> Section | None:
    found = report.summary.failures
    return Section(id="failures", title="Failures by cause", failures=found) if found else None


def _again(report: Report) -> Section | None:
    found = tuple((row.trial, _title(report, row), steps) for row in chosen(report) if (steps := commands(report, row)))
    return Section(id="again", title="Get it again", again=found) if found else None


def _title(report: Report, row: Row) -> str:
    family = "" if row.family in UNKNOWN else f", {row.family}"
    return f"trial {row.trial}{family}: {', '.join(named(report.objectives, row.values))}"


def commands(report: Report, row: Row) -> tuple[tuple[str, str], ...]:
    """Return the commands that restore a trial's config, run or model, each with its purpose."""
    study = shlex.quote(report.study)
    name = file_name(report.study)
    best, trust = f"besom best {study} --trial {row.trial}", report.summary.trust_for(row)
    if is_other_app(report.summary.described) or row.family in UNKNOWN:
        app = report.summary.app
        found = [(f"{app} $({best})" if app else best, "one job with its values")]
    else:
        found = [(f"{best} --save {name}_{row.trial}", "its config, as an experiment")]
        found += [(f'besom.load_model("{row.run_id}")', "its weights, in Python")] if row.run_id else []
    if trust is None:
        return tuple(found)
    trusting = "".join(f" {flag}" for flag in trust)
    if row.run_id:
        found.insert(0, (f"besom reproduce {row.run_id}{trusting}", "run it again and compare every metric"))
    for run in _again_by_seed(report, row):
        found.append((f"besom reproduce {run.run_id}{trusting}", f"with seed {run.seed}, as a finalist"))
    return tuple(found)


def _again_by_seed(report: Report, row: Row) -> tuple[FinalistRun, ...]:
    """Return the complete runs of a finalist."""
    finalists = report.finalists.finalists if report.finalists else ()
    return next((one.complete for one in finalists if one.row.trial == row.trial), ())
