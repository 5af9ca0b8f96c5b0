from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from besom.reproduce.comparison import Verdict, compare, judge

History = dict[int, dict[str, float]]

NAMES = st.sampled_from(["train/loss", "val/loss", "val/acc"])
VALUES = st.floats(-1e6, 1e6)
HISTORIES = st.dictionaries(st.integers(0, 20), st.dictionaries(NAMES, VALUES, min_size=1), min_size=1)


@given(HISTORIES)
def test_a_history_does_not_differ_from_itself(history: History):
    assert compare(history, history) == []


@given(HISTORIES, st.data())
def test_one_changed_value_is_found_where_it_is_and_by_how_much(history: History, data: st.DataObject):
    epoch = data.draw(st.sampled_from(sorted(history)))
    name = data.draw(st.sampled_from(sorted(history[epoch])))
    again = {number: dict(metrics) for number, metrics in history.items()}
    again[epoch][name] = data.draw(VALUES.filter(lambda value: value != history[epoch][name]))
    (found,) = compare(history, again)
    assert (found.metric, found.first, found.at) == (name, epoch, epoch)
    assert found.largest == abs(history[epoch][name] - again[epoch][name])


@given(HISTORIES, HISTORIES)
def test_it_does_not_matter_which_history_came_first(one: History, other: History):
    assert compare(one, other) == compare(other, one)


@given(HISTORIES, st.data())
def test_a_missing_epoch_is_an_endless_difference_of_all_its_metrics(history: History, data: st.DataObject):
    epoch = data.draw(st.sampled_from(sorted(history)))
    rest = {number: metrics for number, metrics in history.items() if number != epoch}
    found = compare(history, rest)
    assert [difference.metric for difference in found] == sorted(history[epoch])
    assert all((d.first, d.largest) == (epoch, math.inf) for d in found)


def test_a_difference_is_told_as_a_share_of_the_value_or_of_one():
    (large,) = compare({1: {"a": 200.0}}, {1: {"a": 202.0}})
    (small,) = compare({1: {"a": 0.25}}, {1: {"a": 0.5}})
    (endless,) = compare({1: {"a": 0.25}}, {})
    assert (large.share, small.share, endless.share) == (2 / 202, 0.25, math.inf)


def test_the_first_and_the_largest_difference_are_told_apart():
    (found,) = compare({0: {"a": 1.0}, 1: {"a": 1.0}, 2: {"a": 1.0}}, {0: {"a": 1.0}, 1: {"a": 1.5}, 2: {"a": 3.0}})
    assert (found.first, found.largest, found.at) == (1, 2.0, 2)


@pytest.mark.parametrize(
    ("recorded", "again"),
    [
        ({0: {"val/loss": math.nan}}, {0: {"val/loss": math.nan}}),
        ({0: {"val/loss": sys.float_info.max}}, {0: {"val/loss": math.inf}}),
        ({0: {"val/loss": -sys.float_info.max}}, {0: {"val/loss": -math.inf}}),
        ({0: {"val/loss": 1.0}, 1: {"best/val/loss": 1.0, "test/acc": 0.5}}, {0: {"val/loss": 1.0}}),
    ],
    ids=["nan", "infinity as MLflow keeps it", "its negative", "what is measured once"],
)
def test_what_mlflow_keeps_in_its_own_way_is_no_difference(recorded: History, again: History):
    assert compare(recorded, again) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_became_none_is_a_difference(value: float):
    assert len(compare({0: {"val/loss": 1.0}}, {0: {"val/loss": value}})) == 1


@pytest.mark.parametrize(
    ("value", "tolerance", "verdict"),
    [
        (100.0, 0.0, Verdict.REPRODUCED),
        (100.5, 0.01, Verdict.CLOSE),
        (100.5, 0.001, Verdict.DIFFERS),
        (100.5, 0.0, Verdict.DIFFERS),
        (math.nan, 1e9, Verdict.DIFFERS),
    ],
)
def test_a_difference_within_the_tolerance_is_close(value: float, tolerance: float, verdict: Verdict):
    assert judge(compare({1: {"a": 100.0}}, {1: {"a": value}}), tolerance) is verdict


def test_one_metric_beyond_the_tolerance_is_enough():
    differences = compare({1: {"a": 1.0, "b": 1.0}}, {1: {"a": 1.001, "b": 2.0}})
    assert judge(differences, 0.01) is Verdict.DIFFERS
