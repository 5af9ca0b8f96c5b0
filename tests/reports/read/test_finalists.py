"""Finalists read from a study."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
import pytest

from besom.config.objectives import Objective
from besom.reports.read.finalists import (
    Finalist,
    FinalistRun,
    Finalists,
    finalist_runs,
    read_finalists,
    winning_trial,
)
from besom.reports.read.summary import Row, Summary
from besom.tracking.tags import StudyAttribute

ACCURACY = Objective(name="val/acc", direction="maximize")
LOSS = Objective(name="val/loss", direction="minimize")


def swept(objective: Objective, **values: tuple[int, float]) -> Summary:
    """A sweep's summary: of each family, a trial and its value."""
    rows = [
        Row(trial=trial, values=(value,), family=family, params={}, duration_s=1.0, run_id=str(trial))
        for family, (trial, value) in values.items()
    ]
    return Summary(study="own", objectives=(objective,), rows=tuple(rows))


def again(trial: int, *measured: tuple[float, float], metric: str = "acc") -> list[FinalistRun]:
    """A trial's runs by seed: what each came to on the validation and on the test part."""
    names = (f"best/val/{metric}", f"test/{metric}")
    return [
        FinalistRun(trial=trial, seed=seed, run_id=f"{trial}-{seed}", metrics=dict(zip(names, values, strict=True)))
        for seed, values in enumerate(measured)
    ]


def read(summary: Summary, runs: Sequence[FinalistRun]) -> Finalists:
    """Write the runs to a study, as a sweep does, and read them back."""
    study = optuna.create_study()
    for run in runs:
        study.set_user_attr(run.key, run.plain())
    assert sorted(finalist_runs(study.user_attrs), key=str) == sorted(runs, key=str)
    found = read_finalists(study, summary)
    assert found is not None
    return found


def test_a_study_without_finalists_has_none() -> None:
    assert read_finalists(optuna.create_study(), swept(ACCURACY, MLPClassifier=(0, 0.9))) is None


def test_the_winner_is_best_on_validation_whatever_the_test_part_says() -> None:
    summary = swept(ACCURACY, MLPClassifier=(3, 0.99), LogisticRegression=(7, 0.97))
    runs = again(3, (0.95, 0.99), (0.95, 0.99)) + again(7, (0.96, 0.90), (0.96, 0.90))
    found = read(summary, runs)
    assert found.winner is not None
    assert found.winner.row.trial == 7


def test_of_a_loss_the_smallest_wins() -> None:
    summary = swept(LOSS, MLPRegressor=(1, 2.0), LinearRegression=(2, 3.0))
    found = read(summary, again(1, (2.5, 2.6), metric="loss") + again(2, (3.0, 3.1), metric="loss"))
    assert [one.row.trial for one in found.finalists] == [1, 2]


@pytest.mark.parametrize(("objective", "value", "optimism"), [(ACCURACY, 0.99, 0.04), (LOSS, 0.91, 0.04)])
def test_optimism_is_what_the_sweep_promised_too_much(objective: Objective, value: float, optimism: float) -> None:
    summary = swept(objective, MLPClassifier=(3, value))
    found = read(summary, again(3, (0.94, 0.9), (0.96, 0.9), metric=objective.name.removeprefix("val/")))
    (only,) = found.finalists
    assert only.optimism == pytest.approx(optimism)


def test_the_winner_is_compared_with_the_baseline_seed_by_seed() -> None:
    summary = swept(ACCURACY, MLPClassifier=(3, 0.99), LogisticRegression=(7, 0.97))
    runs = again(3, (0.97, 0.960), (0.97, 0.970), (0.97, 0.965)) + again(7, (0.96, 0.950), (0.96, 0.962))
    found = read(summary, [*runs, FinalistRun(trial=7, seed=2, run_id="7-2", reason="it crashed")])
    assert found.comparison is not None
    assert found.comparison.count == 2
    assert found.comparison.difference == pytest.approx(0.009)


def test_a_baseline_that_wins_is_compared_with_nothing() -> None:
    summary = swept(ACCURACY, LogisticRegression=(7, 0.97))
    found = read(summary, again(7, (0.96, 0.95), (0.96, 0.96)))
    assert (found.winner, found.comparison) == (found.baseline, None)


def test_failed_runs_count_for_nothing_and_a_finalist_of_only_those_comes_last() -> None:
    summary = swept(ACCURACY, MLPClassifier=(3, 0.99), LogisticRegression=(7, 0.97))
    found = read(summary, [FinalistRun(trial=3, seed=0, run_id="", reason="nan"), *again(7, (0.96, 0.95))])
    last: Finalist = found.finalists[-1]
    assert (last.row.trial, last.complete, last.test, last.optimism) == (3, (), None, None)


def test_of_the_runs_that_are_recorded_those_count_that_are_asked_for() -> None:
    study = optuna.create_study()
    for run in again(3, (0.95, 0.9), (0.97, 0.9)) + again(7, (0.96, 0.9), (0.96, 0.9)):
        study.set_user_attr(run.key, run.plain())
    study.set_user_attr(StudyAttribute.FINALISTS, {"trials": [3], "seeds": [1]})
    found = read_finalists(study, swept(ACCURACY, MLPClassifier=(3, 0.99), LogisticRegression=(7, 0.97)))
    assert found is not None
    (only,) = found.finalists
    assert [(run.trial, run.seed) for run in only.runs] == [(3, 1)]


@pytest.mark.parametrize(("objective", "winner"), [(ACCURACY, 7), (LOSS, 3)])
def test_there_is_a_winner_once_all_runs_are_over(objective: Objective, winner: int) -> None:
    study = optuna.create_study()
    study.set_user_attr(StudyAttribute.FINALISTS, {"trials": [3, 7], "seeds": [0, 1]})
    summary = swept(objective, MLPClassifier=(3, 0.99), LogisticRegression=(7, 0.97))
    metric = objective.name.removeprefix("val/")
    runs = again(3, (0.95, 0.9), (0.95, 0.9), metric=metric) + again(7, (0.96, 0.9), (0.96, 0.9), metric=metric)
    for left in (3, 2, 1, 0):
        run = runs.pop()
        study.set_user_attr(run.key, run.plain())
        found = read_finalists(study, summary)
        assert found is not None
        assert found.to_come == left
        decided = found.champion.trial if found.champion else None
        assert decided == winning_trial(study.user_attrs, objective) == (None if left else winner)


def test_who_has_no_complete_run_does_not_win() -> None:
    study = optuna.create_study()
    study.set_user_attr(StudyAttribute.FINALISTS, {"trials": [3], "seeds": [0]})
    run = FinalistRun(trial=3, seed=0, run_id="", reason="nan")
    study.set_user_attr(run.key, run.plain())
    assert winning_trial(study.user_attrs, ACCURACY) is None


@pytest.mark.parametrize(("objective", "seed"), [(ACCURACY, 1), (LOSS, 0)])
def test_the_best_run_is_best_on_validation(objective: Objective, seed: int) -> None:
    summary = swept(objective, MLPClassifier=(3, 0.99))
    runs = again(3, (0.94, 0.9), (0.96, 0.8), metric=objective.name.removeprefix("val/"))
    failed = FinalistRun(trial=3, seed=7, run_id="", reason="nan")
    (only,) = read(summary, [*runs, failed]).finalists
    assert only.best is not None
    assert only.best.seed == seed
