"""Finalists read from a study: the results of the best trials with fresh seeds, and the winner.

Each run of a finalist is written to the study when it is over, as a separate user attribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import optuna

from besom.config.objectives import Objective
from besom.reports.read.statistics import Estimate, PairedTest
from besom.reports.read.summary import Row, Summary
from besom.tracking.tags import StudyAttribute

BASELINES = ("LinearRegression", "LogisticRegression")
"""The model families that serve as baselines."""


@dataclass(frozen=True, kw_only=True)
class FinalistRun:
    """A run of a trial's config with another seed, and its test metrics; `reason` is set if it failed."""

    trial: int
    seed: int
    run_id: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    duration_s: float = 0.0
    reason: str | None = None

    @property
    def key(self) -> str:
        """The name of its user attribute."""
        return f"{StudyAttribute.FINALIST}{self.trial} seed {self.seed}"

    def plain(self) -> dict[str, Any]:
        """Return the run as JSON-serializable values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A finalist: its row in the sweep, and its runs by seed."""

    row: Row
    runs: tuple[FinalistRun, ...]
    objective: Objective

    @property
    def is_baseline(self) -> bool:
        """True if its model family is a baseline."""
        return self.row.family in BASELINES

    @property
    def complete(self) -> tuple[FinalistRun, ...]:
        """The runs that did not fail."""
        return tuple(run for run in self.runs if run.reason is None)

    @property
    def best(self) -> FinalistRun | None:
        """The complete run that is best on validation, to use if a single run is needed."""
        name = self.objective.best_metric
        worth = 1 if self.objective.direction == "maximize" else -1
        measured = (run for run in self.complete if name in run.metrics)
        return max(measured, key=lambda run: worth * run.metrics[name], default=None)

    @property
    def validation(self) -> Estimate | None:
        """The estimate of the objective on validation."""
        return self.estimate(self.objective.best_metric)

    @property
    def test(self) -> Estimate | None:
        """The estimate of the objective's metric on the test data."""
        return self.estimate(self.objective.test_metric)

    @property
    def optimism(self) -> float | None:
        """The sweep's value minus the mean with fresh seeds, positive if the sweep's value is better."""
        again = self.validation
        if again is None:
            return None
        gap = self.row.value - again.mean
        return gap if self.objective.direction == "maximize" else -gap

    def estimate(self, metric: str) -> Estimate | None:
        """Return the estimate of a metric over the runs, if they have it."""
        return _estimate(self.runs, metric)


@dataclass(frozen=True, kw_only=True)
class Finalists:
    """The finalists of a study, the best on validation first; the test data do not influence the order."""

    objective: Objective
    finalists: tuple[Finalist, ...]
    to_come: int = 0
    """The number of their runs that are not over."""

    @property
    def winner(self) -> Finalist | None:
        """The best finalist."""
        first = next(iter(self.finalists), None)
        return first if first and first.complete else None

    @property
    def champion(self) -> Row | None:
        """The winner's row with its best run; None while runs are to come."""
        best = self.winner.best if self.winner else None
        if self.winner is None or best is None or self.to_come:
            return None
        return replace(self.winner.row, run_id=best.run_id)

    @property
    def baseline(self) -> Finalist | None:
        """The best finalist of a baseline family."""
        return next((one for one in self.finalists if one.is_baseline and one.complete), None)

    @property
    def are_tested(self) -> bool:
        """True if their runs have metrics on test data; those of another app's jobs have none."""
        return any(one.test is not None for one in self.finalists)

    @property
    def rival(self) -> Finalist | None:
        """The finalist that the winner is compared with: the baseline, or the next best of those without test data."""
        if self.baseline is not None or self.are_tested:
            return self.baseline
        return next((one for one in self.finalists[1:] if one.complete), None)

    @property
    def compared_metric(self) -> str:
        """The metric of the comparison: that on the test data, if there is one."""
        return self.objective.test_metric if self.are_tested else self.objective.best_metric

    @property
    def comparison(self) -> PairedTest | None:
        """The test of the winner against its rival, paired by seed; None without both."""
        winner, rival, metric = self.winner, self.rival, self.compared_metric
        if winner is None or rival is None or winner is rival:
            return None
        ones, others = (
            {run.seed: run.metrics[metric] for run in one.complete if metric in run.metrics} for one in (winner, rival)
        )
        seeds = [seed for seed in ones if seed in others]
        return PairedTest.of([ones[seed] for seed in seeds], [others[seed] for seed in seeds])


def finalist_runs(attrs: Mapping[str, Any]) -> tuple[FinalistRun, ...]:
    """Return the finalists' runs that are over, from a study's attributes, in the order of trials and seeds."""
    found = [FinalistRun(**value) for key, value in attrs.items() if key.startswith(StudyAttribute.FINALIST)]
    return tuple(sorted(found, key=lambda run: (run.trial, run.seed)))


def read_finalists(study: optuna.Study, summary: Summary) -> Finalists | None:
    """Return the finalists of a study with this summary, or None if there are none.

    Runs of former finalists, and with former seeds, are left out.
    """
    by_trial = _wanted_runs(study.user_attrs)
    objective = summary.objectives[0]
    found = [
        Finalist(row=row, runs=tuple(by_trial[row.trial]), objective=objective)
        for row in summary.rows
        if row.trial in by_trial
    ]
    if not found:
        return None
    left, _ = to_come(study.user_attrs)
    ordered = sorted(found, key=lambda one: _place(one.runs, objective))
    return Finalists(objective=objective, finalists=tuple(ordered), to_come=left)


def winning_trial(attrs: Mapping[str, Any], objective: Objective) -> int | None:
    """Return the winning trial of a study's finalists, from its attributes; None while runs are to come."""
    left, wanted = to_come(attrs)
    by_trial = _wanted_runs(attrs)
    complete = [trial for trial, runs in by_trial.items() if any(run.reason is None for run in runs)]
    if left or not wanted or not complete:
        return None
    # The sweep's best is first, which decides between equal means.
    order: Sequence[int] = attrs[StudyAttribute.FINALISTS]["trials"]
    return min(complete, key=lambda trial: (_place(by_trial[trial], objective), order.index(trial)))


def to_come(attrs: Mapping[str, Any]) -> tuple[int, int]:
    """Return the number of the finalists' runs that are not over, and of all, from a study's attributes."""
    chosen = attrs.get(StudyAttribute.FINALISTS, {"trials": [], "seeds": []})
    wanted = {(trial, seed) for trial in chosen["trials"] for seed in chosen["seeds"]}
    return len(wanted - {(run.trial, run.seed) for run in finalist_runs(attrs)}), len(wanted)


def _wanted_runs(attrs: Mapping[str, Any]) -> dict[int, list[FinalistRun]]:
    """Return the runs by trial, without those of former finalists and seeds."""
    chosen = attrs.get(StudyAttribute.FINALISTS)
    by_trial: dict[int, list[FinalistRun]] = {}
    for run in finalist_runs(attrs):
        if chosen is None or (run.trial in chosen["trials"] and run.seed in chosen["seeds"]):
            by_trial.setdefault(run.trial, []).append(run)
    return by_trial


def _estimate(runs: Sequence[FinalistRun], metric: str) -> Estimate | None:
    values = [run.metrics[metric] for run in runs if run.reason is None and metric in run.metrics]
    return Estimate.of(values) if values else None


def _place(runs: Sequence[FinalistRun], objective: Objective) -> tuple[bool, float]:
    """Return the sort key of a finalist: the best mean on validation first, those without one last."""
    value = _estimate(runs, objective.best_metric)
    if value is None:
        return True, 0.0
    return False, -value.mean if objective.direction == "maximize" else value.mean
