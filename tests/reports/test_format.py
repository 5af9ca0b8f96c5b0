"""Values as people read them."""

from __future__ import annotations

import pytest

from besom.reports.format import apart, number, signed


@pytest.mark.parametrize(
    ("difference", "of", "told"),
    [
        (-0.0005571, 0.9749, "-0.0006"),
        (0.0117, 0.9749, "+0.0117"),
        (1.2e-8, 0.9694, "+0.0000"),  # what single precision rounds is no difference
        (-1.2e-8, 0.9694, "+0.0000"),
        (-12.25, 3000.5, "-12.2500"),
        (12.0, 3000.0, "+12.0000"),
        (2.5e-7, 1.5e-5, "+2.5e-07"),
    ],
)
def test_a_difference_has_its_sign_and_the_decimals_of_what_differs(difference: float, of: float, told: str) -> None:
    assert signed(difference, of) == told


@pytest.mark.parametrize(
    ("distance", "of", "told"),
    [
        (0.0005357, 0.9868, "0.0005"),
        (0.000043, 0.9868, "4e-05"),  # little, but not nothing
        (1.2e-8, 0.9694, "0.0000"),
        (31.4159, 3000.0, "31.4159"),
        (2.5e-7, 1.5e-5, "2.5e-07"),
    ],
)
def test_how_far_values_are_apart_has_their_decimals(distance: float, of: float, told: str) -> None:
    assert apart(distance, of) == told


def test_a_whole_value_has_the_decimals_of_the_others_and_a_count_has_none() -> None:
    assert [number(value) for value in (0.0, 20.25, 41.0, -3000.0)] == ["0.0000", "20.2500", "41.0000", "-3000.0000"]
    assert [number(value) for value in (2.5e-5, 123456.0)] == ["2.5e-05", "1.235e+05"]
    assert number(50890.0, "cost/params") == "50890"
