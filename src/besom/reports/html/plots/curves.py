"""Learning curves: the leaders in color, the others behind them."""

from __future__ import annotations

from collections.abc import Collection

from optuna.trial import TrialState

from besom.reports.html.plots.canvas import Picture, drawing, frame, text
from besom.reports.read.dimensions import objective_axis
from besom.reports.read.report import Report
from besom.svg.axis import axis_of
from besom.svg.panel import Panel, line


def curves(report: Report) -> Picture | None:
    """Draw the learning curves; None if there are none."""
    metric = report.curve_metric
    if metric is None or not report.curves:
        return None
    leaders = [row.trial for row in report.leaders if row.trial in report.curves]
    others = [trial for trial in report.curves if trial not in leaders]
    maximize = metric == report.objectives[0].name and report.objectives[0].direction == "maximize"
    every = [value for curve in report.curves.values() for _, value in curve]
    up = objective_axis(every, maximize=maximize)
    across = axis_of([epoch for curve in report.curves.values() for epoch, _ in curve], whole=True)
    panel = Panel(left=64, top=10, width=720, height=300)
    parts = [frame(panel, across, up, x_label="epoch", y_label=metric)]
    kinds = dict.fromkeys(others, "curve") | {trial: f"curve lead c{i}" for i, trial in enumerate(leaders)}
    ended = {point.number: point.state for point in report.trials if not point.complete}  # ended early
    parts.append(
        f'<clipPath id="curves"><rect x="{panel.left}" y="{panel.top}" width="{panel.width}" '
        f'height="{panel.height}"/></clipPath><g clip-path="url(#curves)">'
    )
    for trial in [*others, *reversed(leaders)]:
        places = [(panel.x(across, epoch), panel.y(up, value)) for epoch, value in report.curves[trial]]
        parts.append(f'<path class="{kinds[trial]}" data-t="{trial}" d="{line(places)}"/>')
        if trial in ended:
            parts.append(f'<circle class="end" cx="{places[-1][0]:.1f}" cy="{places[-1][1]:.1f}" r="2"/>')
    parts.append("</g>")
    for row, trial in enumerate(leaders):
        y = panel.top + 10 + 20 * row
        parts.append(f'<path class="{kinds[trial]}" data-t="{trial}" d="M{panel.right + 18:.1f} {y - 4}h22"/>')
        parts.append(text(panel.right + 46, y, f"trial {trial}", anchor="start"))
    title = f"{metric} by epoch"
    description = f"{metric} over the epochs of {len(report.curves)} trials"
    return Picture(
        title=title,
        svg=drawing(900, 350, "".join(parts), title=title, description=description),
        note=_note(len(leaders), len(others), {ended[trial] for trial in others if trial in ended}),
    )


def _note(leaders: int, others: int, early: Collection[TrialState]) -> str:
    """Return the explanation; `early` are the states of the trials that ended early."""
    told = [f"The {leaders} leaders in color" if leaders > 1 else "The leader in color"] if leaders else []
    told += [f"{others} others behind them" if leaders else "No trial is complete"] if others else []
    ways = {TrialState.PRUNED: "was stopped early", TrialState.FAIL: "failed"}
    how = " or ".join(words for state, words in ways.items() if state in early)
    return f"{', '.join(told)}." + (f" A dot marks where a trial {how}." if how else "")
