"""A report's sentences and numbers."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from besom.reports.html.page import page
from besom.reports.html.sections import commands, sections
from besom.reports.read.dimensions import differing, dimensions, objective_axis
from besom.reports.read.finalists import FinalistRun
from besom.reports.read.report import read_report, thinned
from besom.reports.tables import trials_table
from besom.reports.text.headline import answer, facts
from besom.reports.text.terminal import plain
from besom.reports.times import duration
from tests.reports.swept import ACCURACY, LOSS, MODELS, grid, report, study, trial

LOGISTIC = {"family": "LogisticRegression", "model": MODELS[0]}


def test_the_winner_is_told_beside_the_best_of_a_baseline() -> None:
    trials = [trial(0.75, **LOGISTIC), trial(0.875, model=MODELS[1]), trial(0.5, **LOGISTIC)]
    assert answer(report(trials)) == [
        "Best val/acc is 0.8750: trial 1 (MLPClassifier), of 3 complete.",
        "The best LogisticRegression, trial 0, came to 0.7500: 0.1250 less.",
    ]


def test_less_is_better_where_the_objective_says_so() -> None:
    assert answer(report([trial(0.75, **LOGISTIC), trial(0.5), trial(0.5)], LOSS)) == [
        "Best val/loss is 0.5000: trial 1 (MLPClassifier), of 3 complete; trial 2 came to the same.",
        "The best LogisticRegression, trial 0, came to 0.7500: 0.2500 more.",
    ]


def test_a_study_without_a_complete_trial_says_what_became_of_them() -> None:
    trials = [trial(0.1, state=TrialState.PRUNED), trial(state=TrialState.FAIL, reason="no memory")]
    assert answer(report(trials, total=9, stage="interrupted")) == [
        "No trial is complete yet (1 pruned, 1 failed).",
        "So far: 2 of 9 trials are over (interrupted).",
    ]
    assert answer(report(trials)) == ["No trial is complete (1 pruned, 1 failed)."]


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ({"slot": 1}, "all 5 with slot=1; none of the 8 others"),
        ({"host": "b"}, "all 5 with host=b; none of the 8 others"),
        ({"config": 2}, "all 5 with config=2; none of the 8 others"),
        ({"code": "net.py 2"}, "all 5 with code=net.py 2; none of the 8 others"),
    ],
)
def test_failures_may_have_in_common_where_they_ran(place: dict[str, Any], told: str) -> None:
    failed = [trial(state=TrialState.FAIL, reason="CUDA error", **place) for _ in range(5)]
    (group,) = report([*failed, *[trial(0.5, slot=0, host="a") for _ in range(8)]]).summary.failures
    assert group.shared == told


def test_finalists_decide_with_the_test_that_is_named() -> None:
    found = study([trial(0.75, **LOGISTIC), trial(0.875, model=MODELS[1])], ACCURACY)
    for number, base in ((0, 0.70), (1, 0.80)):
        for seed in range(4):
            measured = {"best/val/acc": base + 0.01 * seed, "test/acc": base + 0.01 * (seed % 2)}
            run = FinalistRun(trial=number, seed=seed, run_id=f"{number}{seed}", metrics=measured)
            found.set_user_attr(run.key, run.plain())
    told = read_report(found, found.get_trials(), (ACCURACY,), base="")
    again, compared = answer(told)[:2]
    assert again.startswith("Trained again with fresh seeds, trial 1 (MLPClassifier) leads, with test/acc 0.8050 [0.79")
    assert compared.startswith(
        "Trial 1 (MLPClassifier) beats the baseline, trial 0 (LogisticRegression), by 0.1000 of test/"
    )
    assert compared.endswith("paired t-test over 4 seeds, p < 0.0001).")
    (section,) = (section for section in sections(told) if section.id == "finalists")
    rows = section.tables[0][1].rows
    assert [[cell.words for cell in row.cells][:4] for row in rows] == [
        ["1", "MLPClassifier", "4", "0.8750"],
        ["0", "LogisticRegression", "4", "0.7500"],
    ]
    assert plain(told)["finalists"]["test"]["name"] == "paired t-test"
    typed = [command for command, _ in commands(told, told.leaders[0])]
    assert typed[1:] == [f"besom reproduce 1{seed}" for seed in range(4)]


def test_a_table_has_the_parameters_alone_in_which_its_trials_differ() -> None:
    trials = [
        trial(0.1, model=MODELS[1], model_depth=1, optimizer_lr=0.01),
        trial(0.2, model=MODELS[1], model_depth=2, optimizer_lr=0.01),
    ]
    found = report(trials)
    table = trials_table(found, found.summary.rows)
    assert [column.name for column in table.columns] == ["trial", "val/acc", "model", "depth", "time"]
    assert differing([{"a": 1}, {"a": 1, "b": 2}]) == ["b"]


def test_of_several_configs_and_states_of_the_code_a_table_says_which_trial_has_which() -> None:
    trials = [
        trial(0.1, config=1, optimizer_lr=0.01), trial(0.2, config=3, code="net.py 2", optimizer_lr=0.02),
        trial(0.3, optimizer_lr=0.03),
    ]  # fmt: skip
    made = study(trials, ACCURACY)
    made.set_user_attr("besom.config", {"trainer.max_epochs": "10"})
    made.set_user_attr("besom.configs", [{"trainer.max_epochs": "5"}, {"trainer.max_epochs": "7"}])
    found = read_report(made, made.get_trials(), (ACCURACY,), base="http://127.0.0.1:5000")
    table = trials_table(found, found.summary.rows)
    names = [column.name for column in table.columns]
    assert names == ["trial", "val/acc", "model", "config", "code", "lr", "time"]
    assert [[cell.words for cell in row.cells[3:5]] for row in table.rows] == [
        ["?", "·"],
        ["3", "net.py 2"],
        ["1", "·"],
    ]
    (leaderboard,) = [section for section in sections(found) if section.id == "leaderboard"]
    assert leaderboard.note.startswith(
        "config 3: trainer.max_epochs was 10, is 7; code net.py 2: state 2 of net.py that"
    )
    assert "config 3\\ncode net.py 2" in page(found)
    told = plain(found)
    assert told["configs"] == {"2": ["trainer.max_epochs was 10, is 5"], "3": ["trainer.max_epochs was 10, is 7"]}
    assert [(row["config"], row["code"]) for row in told["leaders"]] == [(None, None), (3, "net.py 2"), (1, None)]


def test_slots_are_busy_while_a_trial_of_theirs_trains_and_pauses_do_not_count() -> None:
    hour = 3600
    trials = [
        trial(0.1, slot=0, ended_s=10, duration_s=10),
        trial(0.1, slot=1, ended_s=5, duration_s=5),
        trial(0.1, slot=1, ended_s=5, duration_s=5),  # in one pass with the one before
        trial(0.1, slot=0, ended_s=hour + 10, duration_s=10),
    ]
    times = report(trials).timetable
    assert times.swept_s == pytest.approx(20)
    assert times.pauses_s == (pytest.approx(10),)
    assert times.busy(0) == pytest.approx(1)
    assert times.busy(1) == pytest.approx(0.25)
    assert times.utilisation == pytest.approx(0.625)
    assert [stint.member for stint in times.stints if stint.slot == 1] == [0, 1]
    assert dict(facts(report(trials)))["time"] == "20.0 s, 12.0 trials/min, in 2 sweeps"


def test_trials_of_another_program_have_neither_slots_nor_commands_of_ours() -> None:
    found = report([trial(0.1, slot=None, family="unknown"), trial(0.2, slot=None, family="unknown")])
    assert found.timetable.utilisation is None
    assert "slots" not in {section.id for section in sections(found)}
    assert [command for command, _ in commands(found, found.leaders[0])] == ["besom best own --trial 1"]


def test_an_axis_leaves_out_the_few_that_are_far_from_the_rest_and_nobody_else() -> None:
    near = [0.9 + 0.001 * index for index in range(10)]
    assert objective_axis([*near, 0.0], maximize=True).low > 0.85
    assert objective_axis([*near, 0.89], maximize=True).low < 0.89
    assert objective_axis([0.1, 0.9], maximize=True).low < 0.1


def test_choices_are_told_apart_as_they_are_written() -> None:
    space = {"model": CategoricalDistribution((1, True, None, float("nan"))), "optimizer.lr": FloatDistribution(0, 1)}
    trials = [trial(0.1, space=space, model=value) for value in (1, True, None, float("nan"))]
    (dimension,) = dimensions(trials)
    assert [dimension.place(value) for value in (1, True, None, float("nan"))] == [0, 1, 2, 3]
    assert [label for _, label in dimension.axis.ticks] == ["1", "True", "None", "nan"]


def test_of_many_some_are_kept_evenly() -> None:
    assert thinned(range(10), 5) == [0, 2, 4, 6, 8]
    assert thinned(range(3), 5) == [0, 1, 2]
    assert thinned(range(3), 0) == []


def test_json_has_what_the_page_has() -> None:
    found = plain(report(grid(12), total=12))
    assert found["trials"] == {"complete": 12}
    assert found["best"]["trial"] == 11
    assert [row["trial"] for row in found["best_by_family"]] == [11, 9]
    assert sum(found["importances"].values()) == pytest.approx(1)
    assert found["compare"] is None  # there are no runs


@pytest.mark.parametrize(
    ("seconds", "told"), [(8.12, "8.1 s"), (125, "2:05 min"), (12000, "3:20 h"), (187200, "2 d 4 h")]
)
def test_durations_read_as_people_say_them(seconds: float, told: str) -> None:
    assert duration(seconds) == told
