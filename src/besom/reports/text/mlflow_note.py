"""A short report as Markdown: the description of a study's parent run in MLflow, with links inside MLflow's UI."""

from __future__ import annotations

from besom.reports.read.report import Report
from besom.reports.tables import Table, trials_table
from besom.reports.text.headline import answer
from besom.tracking.ui.views import compare_link, run_link
from besom.tracking.writers.entries import as_markdown

_SHOWN = 5


def note(report: Report) -> str:
    """Return the outcome, the leaders and the best of each model as tables, and links to more."""
    leaders = report.leaders[:_SHOWN]
    goal = ", ".join(map(str, report.objectives))
    # The UI shows only the first lines until it is expanded.
    first = " · ".join([f"Besom sweep **{as_markdown(report.study)}**: {as_markdown(goal)}", *_links(report)])
    parts = [first, " ".join(map(as_markdown, answer(report)))]
    if leaders:
        parts.append(_table(trials_table(report, leaders), report))
        parts += map(as_markdown, report.summary.origins)
    if report.families:
        parts += ["Best of each model:", _table(trials_table(report, report.families), report)]
    for group in report.summary.failures:
        parts.append(as_markdown(f"{group}; {group.shared}" if group.shared else str(group)))
    return "\n\n".join(parts)


def _links(report: Report) -> list[str]:
    record = report.record
    if record is None:
        return []
    found = [f"[Report]({run_link('', record.experiment_id, record.run_id)}/artifacts/report.html)"]
    runs = [row.run_id for row in report.leaders if row.run_id]
    if len(runs) > 1:
        found.append(f"[Compare the {len(runs)} leaders]({compare_link('', record.experiment_id, runs)})")
    return found


def _table(table: Table, report: Report) -> str:
    lines = [[as_markdown(column.name) for column in table.columns]]
    lines.append(["--:" if column.numeric else ":--" for column in table.columns])
    for row in table.rows:
        cells = [as_markdown(cell.words) for cell in row.cells]
        run_id = row.cells[0].run_id
        if run_id and report.record is not None:
            cells[0] = f"[{cells[0]}]({run_link('', report.record.experiment_id, run_id)})"
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
