"""The best report of a trial, and early stopping, where metrics are missing in some reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from besom.config.objectives import Objective
from besom.errors import ConfigError, TrialFailed
from besom.training.best_epoch import BestEpochTracker, LastEpochTracker, Patience
from besom.training.progress import Moment

LOSS, ACC = Objective(name="val/loss", direction="minimize"), Objective(name="train/acc", direction="maximize")
COST = Objective(name="cost/params", direction="minimize")


class Deaf:
    def started(self, about: Mapping[str, Any]) -> None: ...

    def report(self, moment: Moment, metrics: Mapping[str, float]) -> None: ...

    def should_stop(self, *, in_epoch: bool) -> bool:
        return False


def tracked(reports: list[dict[str, float]], *others: Objective, kind: Any = BestEpochTracker) -> BestEpochTracker[int]:
    tracker: BestEpochTracker[int] = kind(LOSS, Deaf(), others)
    tracker.begin({"val/loss": 9.0})
    for step, metrics in enumerate(reports, 1):
        tracker.report(Moment(epoch=1, step=step, in_epoch=True), metrics, lambda step=step: step)
    return tracker


def test_the_best_is_one_of_the_reports_that_have_the_objective():
    tracker = tracked(
        [{"train/acc": 0.1}, {"val/loss": 3.0}, {"train/acc": 0.5}, {"val/loss": 2.0}, {"train/acc": 0.9}]
    )
    assert (tracker.epoch, tracker.step, tracker.best_weights()) == (1, 4, 4)
    assert tracker.metrics == {"val/loss": 2.0, "train/acc": 0.5}  # as last measured before it


def test_the_best_comes_after_all_other_objectives_were_measured():
    reports = [{"val/loss": 1.0}, {"train/acc": 0.5}, {"val/loss": 3.0}]
    assert tracked(reports, ACC, COST).best_weights() == 3
    assert tracked(reports, COST).best_weights() == 1


@pytest.mark.parametrize(
    ("reports", "others", "message"),
    [
        (
            [{"train/acc": 0.5}],
            (),
            "'val/loss' was not measured: training ended before the first validation",
        ),
        (
            [{"train/acc": 0.5, "val/acc": 1.0}],
            (),
            "'val/loss' is not a metric of this run; use one of train/acc",
        ),
        ([{"val/loss": 0.5}], (ACC,), "'train/acc' is not a metric of this run; use one of val/loss"),
        (
            [{"val/loss": 0.5}, {"train/acc": 0.5}],
            (ACC,),
            "'val/loss' was last measured before train/acc; measure",
        ),
    ],
)
def test_an_objective_that_never_comes_is_named(
    reports: list[dict[str, float]], others: tuple[Objective, ...], message: str
):
    with pytest.raises(ConfigError, match=message):
        tracked(reports, *others).best_weights()


def test_a_trial_without_a_report_after_epoch_0_fails():
    with pytest.raises(TrialFailed, match=r"no epoch was completed; raise trainer\.max_time"):
        tracked([]).best_weights()


def test_the_last_report_is_kept_whatever_it_has():
    assert tracked([{"val/loss": 1.0}, {}], kind=LastEpochTracker).best_weights() == 2


def test_early_stopping_waits_for_the_reports_that_have_the_objective():
    patience = Patience({"patience": 2, "min_delta": 0.0}, LOSS)
    reports: list[dict[str, float]] = [{"val/loss": 1.0}, {}, {"val/loss": 1.5}, {"train/acc": 0.5}, {"val/loss": 1.5}]
    assert [patience.is_over(metrics) for metrics in reports] == [False, False, False, False, True]
    never = Patience({"patience": None, "min_delta": 0.0}, LOSS)
    assert not any(never.is_over(metrics) for metrics in reports)
