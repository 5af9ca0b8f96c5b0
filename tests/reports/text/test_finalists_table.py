"""Finalists as a person reads them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from besom.config.objectives import Objective
from besom.reports.read.finalists import Finalist, FinalistRun, Finalists
from besom.reports.read.summary import Row
from besom.reports.text.finalists_table import render_finalists, verdict

ACCURACY = Objective(name="val/acc", direction="maximize")
LOSS = Objective(name="val/loss", direction="minimize")


def finalist(
    trial: int, family: str, *measured: tuple[float, float], swept: float = 0.98, objective: Objective = ACCURACY
) -> Finalist:
    """A trial with runs: what each came to on validation and test, by seed."""
    metric = objective.name.removeprefix("val/")
    runs = [
        FinalistRun(trial=trial, seed=seed, run_id="", metrics={f"best/val/{metric}": val, f"test/{metric}": test})
        for seed, (val, test) in enumerate(measured)
    ]
    row = Row(trial=trial, values=(swept,), family=family, params={}, duration_s=1.0, run_id="")
    return Finalist(row=row, runs=tuple(runs), objective=objective)


def finalists(*found: Finalist) -> Finalists:
    return Finalists(objective=found[0].objective, finalists=found)


MLP = finalist(12, "MLPClassifier", (0.97, 0.960), (0.97, 0.961), (0.97, 0.962))
LINEAR = finalist(3, "LogisticRegression", (0.96, 0.950), (0.96, 0.952), (0.96, 0.951))
NAMES = "trial 12 (MLPClassifier)", "trial 3 (LogisticRegression)"


def shown(found: Finalists, *, width: int = 140) -> list[list[str]]:
    """The words of each line."""
    console = Console(file=io.StringIO(), width=width)
    console.print(render_finalists(found, console))
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_a_finalist_is_a_row_of_means_with_their_intervals_and_the_optimism() -> None:
    _, head, first, second, *_ = shown(finalists(MLP, LINEAR))
    assert head == ["trial", "model", "sweep", "val/acc", "sd", "optimism", "test/acc", "sd", "n"]
    test = ["0.9610", "±", "0.0025", "0.0010"]  # 4.303 standard errors, of two degrees of freedom
    assert first == ["12", "MLPClassifier", "0.9800", "0.9700", "±", "0.0000", "0.0000", "+0.0100", *test, "3"]
    assert second[-6:-1] == ["+0.0200", "0.9510", "±", "0.0025", "0.0010"]


def test_on_a_narrow_terminal_nothing_is_cut() -> None:
    _, head, first, *_ = shown(finalists(MLP, LINEAR), width=80)
    assert head == ["trial", "model", "sweep", "val/acc", "optimism", "test/acc", "n"]
    assert first == ["12", "MLPClassifier", "0.9800", "0.9700", "±", "0.0000", "+0.0100", "0.9610", "±", "0.0025", "3"]


def test_a_single_seed_has_no_interval() -> None:
    _, _, row, *_ = shown(finalists(finalist(12, "MLPClassifier", (0.97, 0.96))))
    assert row == ["12", "MLPClassifier", "0.9800", "0.9700", "·", "+0.0100", "0.9600", "·", "1"]


def test_what_single_precision_rounds_is_no_optimism() -> None:
    _, _, row, *_ = shown(finalists(finalist(12, "MLPClassifier", (0.97, 0.96), (0.97, 0.96), swept=0.97 + 1e-8)))
    assert "+0.0000" in row


def test_failures_are_told_by_their_reasons() -> None:
    broken = FinalistRun(trial=12, seed=7, run_id="", reason="ValueError: no luck")
    some = Finalist(row=MLP.row, runs=(*MLP.runs, broken), objective=ACCURACY)
    lines = [" ".join(words) for words in shown(finalists(some, LINEAR))]
    assert "1 of the finalists' runs failed: ValueError: no luck (trial 12)" in lines


def test_the_verdict_names_both_the_gain_and_the_test() -> None:
    winner, baseline = NAMES
    assert verdict(finalists(MLP, LINEAR)) == (
        f"{winner} beats the baseline, {baseline}, by 0.0100 of test/acc "
        "(95 % interval 0.0075 to 0.0125; paired t-test over 3 seeds, p = 0.0033)"
    )


def test_of_a_loss_less_is_a_gain() -> None:
    mlp = finalist(12, "MLPRegressor", (2.0, 2.00), (2.0, 2.02), (2.0, 2.01), objective=LOSS)
    linear = finalist(3, "LinearRegression", (3.0, 3.00), (3.0, 3.01), (3.0, 3.02), objective=LOSS)
    assert "beats the baseline, trial 3 (LinearRegression), by 1.0000 of test/loss (95 %" in verdict(
        finalists(mlp, linear)
    )


@pytest.mark.parametrize(
    ("tests", "told"),
    [
        ((0.95, 0.96, 0.94), "may be no better than the baseline, {baseline}: the gain of -0.0010 in test/acc may be"),
        ((0.940, 0.941, 0.942), "is worse than the baseline, {baseline}, by 0.0100 of test/acc (95 % interval -0.0"),
        ((0.950, 0.952, 0.951), "the gain of 0.0000 in test/acc may be chance (95 % interval 0.0000 to 0.0000;"),
        ((0.960, 0.962, 0.961), "beats the baseline, {baseline}, by 0.0100 of test/acc (95 % interval 0.0100 to"),
    ],
)
def test_what_may_be_chance_is_said_to_be(tests: tuple[float, ...], told: str) -> None:
    winner = finalist(12, "MLPClassifier", *((0.97, test) for test in tests))
    assert told.format(baseline=NAMES[1]) in verdict(finalists(winner, LINEAR))


def test_without_a_pair_nothing_is_concluded() -> None:
    one = finalist(12, "MLPClassifier", (0.97, 0.96))
    told = f"whether {NAMES[0]} beats the baseline, {NAMES[1]}, cannot be told"
    assert verdict(finalists(one, LINEAR)) == f"{told}: less than two seeds have test/acc of both"
    assert verdict(finalists(LINEAR, MLP)) == f"no finalist comes before the baseline, {NAMES[1]}, on val/acc"
    assert f"{NAMES[0]} comes first, with test/acc 0.9610 ± 0.0025; there is no base" in verdict(finalists(MLP))
    broken = Finalist(row=MLP.row, runs=(FinalistRun(trial=12, seed=7, run_id="", reason="no"),), objective=ACCURACY)
    assert verdict(finalists(broken)) == "no finalist is complete"
