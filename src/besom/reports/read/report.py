"""The data of a study's report, read once: trials, learning curves from the store, timetable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from besom.config.objectives import Objective
from besom.config.units import Unit
from besom.reports.read.dimensions import Dimension, dimensions
from besom.reports.read.finalists import BASELINES, Finalists, read_finalists
from besom.reports.read.summary import Row, Summary, about, reached, summarize
from besom.reports.read.timetable import Timetable, timetable
from besom.reports.read.trials import is_feasible, plain_params
from besom.tracking.study_reader import Curve, StudyReader, StudyRecord
from besom.tracking.tags import StudyAttribute

_LEADERS = 8
"""The number of trials that are shown by name."""

_OTHERS = 200  # curves besides the leaders'; more cannot be told apart
_OTHERS_BY_CALLS = 24


@dataclass(frozen=True, kw_only=True)
class TrialPoint:
    """The data of a trial in plots. `values` are empty for a trial without a value.

    `reached` is the number of its last report, with its unit.
    """

    number: int
    state: TrialState
    values: tuple[float, ...]
    params: Mapping[str, Any]
    family: str
    feasible: bool
    reached: tuple[Unit, int] | None = None
    config: int | None = None
    code: str = ""

    @property
    def complete(self) -> bool:
        """True if it is complete."""
        return self.state is TrialState.COMPLETE


@dataclass(frozen=True, kw_only=True)
class Report:
    """The data of a study's report, at its current progress.

    `stage` is the progress in a word; `curves` are by trial, of the metric `curve_metric` by
    `curve_axis`; `record` is None if MLflow
    has no record of the study; `base` is the URL of MLflow's UI.
    """

    summary: Summary
    trials: tuple[TrialPoint, ...]
    dimensions: tuple[Dimension, ...]
    finalists: Finalists | None
    timetable: Timetable
    counts: Mapping[str, int]
    base: str
    made: datetime
    total: int | None = None
    stage: str = "complete"
    source: str = ""
    record: StudyRecord | None = None
    curves: Mapping[int, Curve] = field(default_factory=dict)
    curve_metric: str | None = None
    curve_axis: Unit = Unit.EPOCH

    @property
    def study(self) -> str:
        """The study's name."""
        return self.summary.study

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives."""
        return self.summary.objectives

    @property
    def leaders(self) -> tuple[Row, ...]:
        """The best few trials; with several objectives, those on the Pareto front first."""
        return self.summary.rows[:_LEADERS]

    @property
    def families(self) -> tuple[Row, ...]:
        """The best trial of each model family, if there are several families and one objective."""
        found = self.summary.best_by_family()
        return found if len(found) > 1 and len(self.objectives) == 1 else ()

    @property
    def rival(self) -> Row | None:
        """The best trial of another family than the winner's: a baseline, or else the next best family."""
        others = self.families[1:]
        return next((row for row in others if row.family in BASELINES), next(iter(others), None))

    @property
    def important(self) -> tuple[Dimension, ...]:
        """The sampled parameters, the most important first."""
        order = list(self.summary.importances.shares)
        return tuple(
            sorted(
                self.dimensions,
                key=lambda dimension: order.index(dimension.key) if dimension.key in order else len(order),
            )
        )


def read_report(
    study: optuna.Study,
    trials: Sequence[FrozenTrial],
    objectives: tuple[Objective, ...],
    *,
    base: str,
    reader: StudyReader | None = None,
    total: int | None = None,
    stage: str = "complete",
    summary: Summary | None = None,
    others: int | None = None,
) -> Report:
    """Read the report of a study; `trials` are all its trials, including running ones.

    `summary` is passed if it was read already; `others` is the maximum number of curves besides the leaders'. Raises
    StoreError when the store of the runs cannot be used.
    """
    token = study.user_attrs.get(StudyAttribute.TOKEN)
    record = reader.study(token) if reader is not None and token else None
    over = [trial for trial in trials if trial.state.is_finished()]
    summary = summary or summarize(study, over, objectives, record.run_ids if record else {})
    report = Report(
        summary=summary,
        trials=tuple(_point(trial) for trial in over),
        dimensions=dimensions(over),
        finalists=read_finalists(study, summary),
        timetable=timetable(over),
        counts={
            _NAMES.get(state, state.name.lower()): count for state in TrialState if (count := _count(trials, state))
        },
        base=base,
        made=datetime.now().astimezone(),
        total=total,
        stage=stage,
        source=str((study.user_attrs.get(StudyAttribute.SPEC) or {}).get("source", "")),
        record=record,
    )
    return report if record is None or reader is None else _with_curves(report, record, reader, others)


def _with_curves(report: Report, record: StudyRecord, reader: StudyReader, most: int | None) -> Report:
    """Add the curves of the leaders and some others, of the first objective or metric that is reported as trials train.

    They have the axis of the best of these trials; those of another one are left out.
    """
    leaders = [row.trial for row in report.leaders]
    axis = next((record.axis(run) for trial in leaders if (run := record.run_ids.get(trial))), None)
    axis = axis or next((record.axis(run) for run in record.run_ids.values()), Unit.EPOCH)
    recorded = {trial for trial, run in record.run_ids.items() if record.axis(run) is axis}
    wanted = [trial for trial in leaders if trial in recorded]
    others = [point.number for point in report.trials if point.number in recorded and point.number not in leaders]
    wanted += thinned(others, most if most is not None else _OTHERS if reader.cheap else _OTHERS_BY_CALLS)
    trials = {record.run_ids[trial]: trial for trial in wanted}
    for metric in dict.fromkeys((*(objective.name for objective in report.objectives), "val/loss")):
        timing = reader.curves(list(trials)[:_LEADERS], metric)
        if any(len(curve) > 1 for curve in timing.values()):
            found = timing | reader.curves(list(trials)[_LEADERS:], metric)
            curves = {trials[run]: curve for run, curve in found.items()}
            return replace(report, curve_metric=metric, curve_axis=axis, curves=curves)
    return report


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """Return the items, or an evenly spread selection of `most`."""
    if len(items) <= most:
        return list(items)
    return [items[index * len(items) // most] for index in range(most)]


_NAMES = {TrialState.FAIL: "failed"}


def _count(trials: Sequence[FrozenTrial], state: TrialState) -> int:
    return sum(trial.state is state for trial in trials)


def _point(trial: FrozenTrial) -> TrialPoint:
    return TrialPoint(
        number=trial.number,
        state=trial.state,
        values=tuple(trial.values or ()),
        params=plain_params(trial),
        family=about(trial).get("family") or "?",
        feasible=is_feasible(trial),
        reached=reached(trial),
        config=about(trial).get("config"),
        code=about(trial).get("code") or "",
    )
