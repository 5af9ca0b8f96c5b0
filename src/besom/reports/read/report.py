"""All that a study's report shows, read once: its trials as they stand, the store's curves, when and where they ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from besom.config.objectives import Objective
from besom.reports.read.dimensions import Dimension, dimensions
from besom.reports.read.finalists import BASELINES, Finalists, read_finalists
from besom.reports.read.summary import Row, Summary, about, summarize
from besom.reports.read.timetable import Timetable, timetable
from besom.reports.read.trials import is_feasible, plain_params
from besom.tracking.study_reader import Curve, StudyReader, StudyRecord

LEADERS = 8
"""How many trials are shown by name."""

_OTHERS = 200  # curves beside the leaders'; no eye tells more of them apart
_OTHERS_BY_CALLS = 24


@dataclass(frozen=True, kw_only=True)
class TrialPoint:
    """A trial as a picture shows it. `values` are empty for one that came to none, or only to some on its way."""

    number: int
    state: TrialState
    values: tuple[float, ...]
    params: Mapping[str, Any]
    family: str
    feasible: bool
    epochs: int | None = None
    config: int | None = None
    code: str = ""

    @property
    def complete(self) -> bool:
        """Whether it came to its end."""
        return self.state is TrialState.COMPLETE


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a study came to, as far as it is.

    `stage` says how far it is, in a word; `curves` are by trial, of the metric `curve_metric`; `record` is None where
    MLflow has nothing of it; `base` is where MLflow's UI answers.
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

    @property
    def study(self) -> str:
        """The study's name."""
        return self.summary.study

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What it was about."""
        return self.summary.objectives

    @property
    def leaders(self) -> tuple[Row, ...]:
        """The best few trials; of several objectives, those on the Pareto front first."""
        return self.summary.rows[:LEADERS]

    @property
    def families(self) -> tuple[Row, ...]:
        """The best of each model family, where there are several and one objective to compare them by."""
        found = self.summary.best_by_family()
        return found if len(found) > 1 and len(self.objectives) == 1 else ()

    @property
    def rival(self) -> Row | None:
        """The best trial of another family than the winner's: of a baseline's, else of the next best one."""
        others = self.families[1:]
        return next((row for row in others if row.family in BASELINES), next(iter(others), None))

    @property
    def important(self) -> tuple[Dimension, ...]:
        """The sampled parameters, those that mattered most first."""
        order = list(self.summary.importances)
        return tuple(sorted(self.dimensions, key=lambda one: order.index(one.key) if one.key in order else len(order)))


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
    """Read a report of a study; `trials` are all of its trials, those that still run among them.

    `summary` is what was read of them already, `others` how many curves are read beside the leaders' at most. Raises
    StoreError when the store of the runs cannot be used.
    """
    token = study.user_attrs.get("besom.token")
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
        source=str((study.user_attrs.get("besom.spec") or {}).get("source", "")),
        record=record,
    )
    return report if record is None or reader is None else _with_curves(report, record, reader, others)


def _with_curves(report: Report, record: StudyRecord, reader: StudyReader, most: int | None) -> Report:
    """Add the leaders' curves, of the first objective or of what else is measured by epoch, and some of the others'."""
    leaders = [row.trial for row in report.leaders]
    wanted = [trial for trial in leaders if trial in record.run_ids]
    others = [point.number for point in report.trials if point.number in record.run_ids and point.number not in leaders]
    wanted += thinned(others, most if most is not None else _OTHERS if reader.cheap else _OTHERS_BY_CALLS)
    trials = {record.run_ids[trial]: trial for trial in wanted}
    for metric in dict.fromkeys((*(objective.name for objective in report.objectives), "val/loss")):
        timing = reader.curves(list(trials)[:LEADERS], metric)
        if any(len(curve) > 1 for curve in timing.values()):
            found = timing | reader.curves(list(trials)[LEADERS:], metric)
            return replace(report, curve_metric=metric, curves={trials[run]: curve for run, curve in found.items()})
    return report


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """All of the items or, of more than `most`, as many, evenly spread."""
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
        epochs=about(trial).get("epochs"),
        config=about(trial).get("config"),
        code=about(trial).get("code") or "",
    )
