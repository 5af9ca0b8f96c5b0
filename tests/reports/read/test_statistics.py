"""Means, intervals and the paired test, held against scipy's own and against what an interval promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from besom.reports.read.statistics import Estimate, PairedTest

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9)


@given(VALUES)
def test_an_estimate_is_the_mean_with_students_interval(values: list[float]) -> None:
    found = Estimate.of(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert found.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    error = float(stats.sem(values))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error) if error else (values[0],) * 2
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6, abs=1e-6)


def test_a_single_value_has_no_interval() -> None:
    assert Estimate.of([0.9]) == Estimate(mean=0.9, count=1)


def test_the_interval_holds_the_true_mean_nineteen_times_in_twenty() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, size=(4000, 5))
    found = [Estimate.of(list(values)) for values in draws]
    inside = np.mean([one.low < 3.0 < one.high for one in found if one.low is not None and one.high is not None])
    assert inside == pytest.approx(0.95, abs=0.015)


def test_the_paired_test_is_scipys() -> None:
    ones, others = [0.91, 0.93, 0.92, 0.95, 0.90], [0.90, 0.91, 0.92, 0.92, 0.89]
    found = PairedTest.of(ones, others)
    assert found is not None
    expected = stats.ttest_rel(ones, others)
    interval = expected.confidence_interval()
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx(0.014)
    assert not found.differs


def test_pairs_that_always_differ_by_the_same_differ_and_equal_ones_do_not() -> None:
    apart = PairedTest.of([2.0, 3.0], [1.0, 2.0])
    equal = PairedTest.of([1.0, 3.0], [1.0, 3.0])
    assert apart is not None
    assert equal is not None
    assert (apart.differs, apart.p_value) == (True, 0.0)
    assert (equal.differs, equal.p_value) == (False, 1.0)


def test_one_pair_tells_nothing() -> None:
    assert PairedTest.of([1.0], [2.0]) is None
