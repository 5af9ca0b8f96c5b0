from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from besom.reports.read.timetable import timetable
from besom.reports.times import offset
from tests.conftest import in_zone
from tests.reports.swept import trial


def test_the_hour_that_clocks_are_put_back_is_not_swept_twice():
    with in_zone("America/New_York"):
        before, after = trial(0.5, duration_s=60), trial(0.6, duration_s=60)
        before.datetime_start = datetime(2026, 11, 1, 1, 59)
        before.datetime_complete = datetime(2026, 11, 1, 1, 0, fold=1)  # a minute later
        after.datetime_start = before.datetime_complete
        after.datetime_complete = datetime(2026, 11, 1, 1, 1, fold=1)
        found = timetable([before, after])
        assert found.began is not None
        assert found.ended is not None
        clocks = offset(found.began.astimezone()), offset(found.ended.astimezone())
    assert [(one.began_s, one.ended_s) for one in found.stints] == [(0, 60), (60, 120)]
    assert (found.swept_s, found.pauses_s) == (120, ())
    assert found.ended - found.began == timedelta(minutes=2)
    assert clocks == ("UTC-04:00", "UTC-05:00")


@pytest.mark.parametrize(("zone", "told"), [("Asia/Kolkata", "UTC+05:30"), ("UTC", "UTC"), ("Asia/Tokyo", "UTC+09:00")])
def test_a_moment_says_by_which_clock_it_is_told(zone: str, told: str):
    with in_zone(zone):
        assert offset(datetime(2026, 1, 1).astimezone()) == told
