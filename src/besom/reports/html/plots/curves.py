"""Learning curves: the leaders in color, the others behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from besom.config.units import Unit
from besom.reports.html.plots.canvas import Picture, frame
from besom.reports.read.dimensions import objective_axis
from besom.reports.read.report import Report
from besom.svg.axis import Axis, axis_of
from besom.svg.marks import circle, line, path, rect, text
from besom.svg.panel import Panel
from besom.tracking.study_reader import Curve

_PANEL = Panel(left=74, top=10, width=710, height=300)
_CLIP = f'<clipPath id="curves-panel">{rect(_PANEL.left, _PANEL.top, _PANEL.width, _PANEL.height)}</clipPath>'
_EARLY = {TrialState.PRUNED: "was stopped early", TrialState.FAIL: "failed"}


@dataclass(frozen=True, kw_only=True)
class _Curves:
    """The data of the plot: curves by trial, those of the leaders and of others, and how trials ended early."""

    metric: str
    axis: Unit
    curves: Mapping[int, Curve]
    leaders: Sequence[int]
    others: Sequence[int]
    early: Mapping[int, TrialState]
    across: Axis
    up: Axis

    def kind(self, trial: int) -> str:
        """Return the CSS classes of a curve."""
        return f"curve lead c{self.leaders.index(trial)}" if trial in self.leaders else "curve"


def curves(report: Report) -> list[Picture]:
    """Draw the learning curves, if there are any."""
    return [_draw(data) for data in _read(report)]


def _read(report: Report) -> Iterator[_Curves]:
    metric, found = report.curve_metric, report.curves
    if metric is None or not found:
        return
    leaders = [row.trial for row in report.leaders if row.trial in found]
    objective = report.objectives[0]
    yield _Curves(
        metric=metric,
        axis=report.curve_axis,
        curves=found,
        leaders=leaders,
        others=[trial for trial in found if trial not in leaders],
        early={point.number: point.state for point in report.trials if not point.complete},
        across=axis_of([number for curve in found.values() for number, _ in curve], whole=True),
        up=objective_axis(
            [value for curve in found.values() for _, value in curve],
            maximize=metric == objective.name and objective.direction == "maximize",
        ),
    )


def _draw(data: _Curves) -> Picture:
    parts = [frame(_PANEL, data.across, data.up, x_label=data.axis, y_label=data.metric)]
    parts.append(f'{_CLIP}<g clip-path="url(#curves-panel)">')
    parts += [_curve(data, trial) for trial in (*data.others, *reversed(data.leaders))]
    parts.append("</g>")
    for row, trial in enumerate(data.leaders):
        x, y = _PANEL.right + 18, _PANEL.top + 10 + 20 * row
        parts.append(path(f"M{x:.1f} {y - 4}h22", class_=data.kind(trial), data_t=trial))
        parts.append(text(x + 28, y, f"trial {trial}", anchor="start"))
    return Picture(
        title=f"{data.metric} by {data.axis}",
        height=350,
        parts=parts,
        description=f"{data.metric} over the {data.axis}s of {len(data.curves)} trials",
        note=_note(data),
    )


def _curve(data: _Curves, trial: int) -> str:
    points = _PANEL.points(data.across, data.up, data.curves[trial])
    end = circle(*points[-1], 2, class_="end") if trial in data.early else ""
    return path(line(points), class_=data.kind(trial), data_t=trial) + end


def _note(data: _Curves) -> str:
    leaders, others = len(data.leaders), len(data.others)
    told = [f"The {leaders} leaders in color" if leaders > 1 else "The leader in color"] if leaders else []
    told += [f"{others} others behind them" if leaders else "No trial is complete"] if others else []
    early = {data.early.get(trial) for trial in data.others}
    how = " or ".join(words for state, words in _EARLY.items() if state in early)
    return f"{', '.join(told)}." + (f" A dot marks where a trial {how}." if how else "")
