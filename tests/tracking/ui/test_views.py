from __future__ import annotations

import json
import re
from typing import Any

import pytest

from besom.tracking.ui.views import (
    landing_page,
    runs_link,
    saved_view,
    saved_views,
    study_link,
    study_view,
    view_key,
    wanted,
)

EXAMPLES = [
    {"model": "logistic_regression", "optimizer.lr": 0.001},
    {"model": "mlp_classifier", "optimizer.lr": 0.001, "model.depth": 1},
]
TAG_MAX = 20_000  # characters, in MLflow


def view(**changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "study": "digits",
        "parent_run_id": "abc",
        "objective": "val/acc",
        "direction": "maximize",
        "examples": EXAMPLES,
    }
    return study_view(**{**usual, **changes})


def test_the_objective_comes_first_then_the_sampled_parameters_then_other_metrics():
    assert view()["selectedColumns"] == [
        "metrics.`best/val/acc`",
        "params.`model`",
        "params.`optimizer.lr`",
        "params.`model.depth`",
        "metrics.`train/acc`",
        "metrics.`val/loss`",
    ]


def test_columns_are_ordered_as_they_were_selected():
    state = view()
    shown = set(state["selectedColumns"])
    assert [column for column in state["columnOrder"] if column in shown] == state["selectedColumns"]


def test_a_metric_is_shown_once():
    selected = view(objective="train/loss")["selectedColumns"]
    assert len(selected) == len(set(selected))


def test_only_the_trials_of_the_study_are_shown():
    assert view()["searchFilter"] == "tags.`mlflow.parentRunId`='abc' AND tags.`besom.trial`!=''"


@pytest.mark.parametrize(("direction", "ascending"), [("maximize", False), ("minimize", True)])
def test_the_best_trial_comes_first(direction: str, ascending: bool):
    state = view(direction=direction)
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best/val/acc`", ascending)


def test_a_column_has_room_for_its_longest_choice():
    widths = view()["columnWidths"]
    assert widths["params.`model`"] > 6.5 * len("logistic_regression")
    assert widths["params.`model`"] > widths["params.`optimizer.lr`"]


def test_parallel_coordinates_leave_out_what_only_some_trials_have():
    parallel, line, *_ = view()["compareRunCharts"]
    assert parallel["selectedParams"] == ["model", "optimizer.lr"]
    assert parallel["selectedMetrics"] == ["best/val/acc"]
    assert line["metricKey"] == "val/acc"


@pytest.mark.parametrize(
    ("important", "shown"),
    [
        (["model.depth", "optimizer.lr"], "model.depth"),
        (["gone", "model"], "model"),
        ([], "optimizer.lr"),  # before anything is known: one with numbers
    ],
)
def test_the_scatter_is_over_the_most_important_parameter(important: list[str], shown: str):
    (scatter,) = (chart for chart in view(important=important)["compareRunCharts"] if chart["type"] == "SCATTER")
    assert scatter["xaxis"] == {"type": "PARAM", "key": shown}
    assert scatter["yaxis"] == {"type": "METRIC", "key": "best/val/acc"}


def test_a_study_of_a_function_has_no_scatter():
    assert [chart["type"] for chart in view(examples=[])["compareRunCharts"]] == ["PARALLEL", "LINE", "BAR"]


def test_every_chart_belongs_to_a_section():
    state = view()
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} <= sections


def test_the_view_of_a_large_search_space_fits_into_a_tag():
    examples = [{f"model.some_group.parameter_{number}": "a_long_choice" for number in range(200)}]
    assert len(json.dumps(saved_view("large", view(examples=examples)))) < TAG_MAX


def test_a_large_view_comes_with_one_that_fits_into_the_tag_of_an_older_mlflow():
    about: dict[str, Any] = {"parent_run_id": "abc", "objective": "val/acc", "direction": "maximize"}
    few, many = ([{f"model.parameter_{number}": 0.5 for number in range(count)}] for count in (3, 30))
    assert len(saved_views("small", examples=few, **about)) == 1
    sizes = [len(json.dumps(one)) for one in saved_views("large", examples=many, **about)]
    assert sizes[0] > 5000 >= sizes[1] > 4500


@pytest.mark.parametrize(("views", "published"), [("auto", True), (None, True), ("off", False), (False, False)])
def test_views_are_published_unless_they_are_off(views: Any, published: bool):
    assert wanted(views) is published


def test_a_saved_view_has_a_name_and_holds_the_state():
    saved = saved_view("digits", view())
    assert saved["name"] == "digits"
    assert json.loads(saved["state"]) == view()


@pytest.mark.parametrize("study", ["digits", "fashion-mnist", "a b/c", "größe", "x?y&z#"])
def test_any_study_name_makes_a_key_fit_for_a_url(study: str):
    assert re.fullmatch(r"besom-[A-Za-z0-9_-]+", view_key(study))


def test_a_link_names_experiment_view_and_model_training():
    link = study_link("http://127.0.0.1:5000", "7", "digits")
    assert link == (
        "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=besom-digits"
    )
    assert study_link("http://127.0.0.1:5000", "7", "digits", charts=True) == f"{link}&compareRunsMode=CHART"
    assert link.startswith(runs_link("http://127.0.0.1:5000", "7"))


def test_our_script_comes_before_those_of_the_page():
    page = landing_page("<html><head><script src='main.js'></script></head></html>")
    assert page.index("viewStateShareKey") < page.index("main.js")
