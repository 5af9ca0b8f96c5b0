from __future__ import annotations

import json
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from besom.errors import ConfigError
from besom.sweep.space.overrides import Line
from besom.sweep.space.parser import SpaceParser
from besom.sweep.space.search_space import SearchSpace
from tests.conftest import App

MODEL = "choice(linear, mlp, cnn)"


def space_of(app: App, params: dict[str, Any], when: dict[str, Any] | None = None, *given: str) -> SearchSpace:
    return SpaceParser(app[0], source="digits.yaml", arguments=given).space(params, when or {})[0]


# The number of points.


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("choice(a, b, c)", 3),
        ("range(1, 4)", 3),
        ("range(1, 10, 4)", 3),
        ("range(0, 1, 0.1)", 10),
        ("tag(log, range(1, 1001))", 1000),
        ("tag(log, int(interval(1, 1000)))", 1000),
        ("range(0, 1e6, 1e-6)", 10**12),
        ("interval(0, 1)", None),
        ("interval(1, 1)", 1),
        ("tag(log, interval(0.1, 1))", None),
    ],
)
def test_a_range_has_as_many_points_as_values(small_app: App, text: str, size: int | None):
    assert space_of(small_app, {"rate": text}).size() == size


def test_what_does_not_exist_is_not_counted(small_app: App):
    when = {
        "model=mlp": {"depth": "range(1, 4)", "when": {"depth=2,3": {"width": "choice(1, 2, 3, 4)"}}},
        "model=cnn": {"kernel": "choice(3, 5)"},
    }
    space = space_of(small_app, {"model": MODEL, "rate": "range(0, 10)"}, when)
    assert space.size() == 10 * (1 + (1 + 4 + 4) + 2)


def test_an_interval_that_can_never_be_chosen_makes_nothing_endless(small_app: App):
    space = space_of(small_app, {"model": MODEL, "name": "a, b"}, {"model=mlp": {"rate": "interval(0, 1)"}})
    assert space.size() is None
    assert space_of(small_app, {"model": MODEL}, {"model=mlp": {"rate": "interval(0, 1)"}}, "model=cnn").size() == 1


def test_a_huge_space_is_counted_without_visiting_it(small_app: App):
    params = {f"+k{index}": "range(0, 1000)" for index in range(30)} | {"model": MODEL}
    when = {"model=mlp": {f"+m{index}": "range(0, 1000)" for index in range(30)}, "+k7=3,5,2000": {"+x": "a, b"}}
    space = space_of(small_app, params, when)
    assert space.size() == 1000**29 * (998 + 2 * 2) * (1000**30 + 2)


# The points.


def test_points_come_in_the_order_in_which_they_are_written(small_app: App):
    when = {"model=mlp": {"depth": "range(1, 3)"}}
    space = space_of(small_app, {"name": "b, a", "model": "choice(mlp, linear)"}, when)
    assert list(space.points()) == [
        {"name": name, **rest}
        for name in ("b", "a")
        for rest in ({"model": "mlp", "depth": 1}, {"model": "mlp", "depth": 2}, {"model": "linear"})
    ]


@pytest.mark.parametrize(("text", "last"), [("range(0.1, 1.2, 0.1)", 1.1), ("range(0.1, 0.4, 0.1)", 0.3)])
def test_a_float_range_counts_in_decimals_and_ends_before_its_stop(small_app: App, text: str, last: float):
    space = space_of(small_app, {"rate": text})
    expected = [round(0.1 * count, 1) for count in range(1, round(last * 10) + 1)]
    assert [params["rate"] for params in space.points()] == expected
    assert space.size() == len(expected)
    assert space.parameters[0].distribution.high == last  # type: ignore[attr-defined]


def test_lists_are_points_as_the_config_gets_them(small_app: App):
    space = space_of(small_app, {"items": "choice([32, 64], [])", "nothing": "null, 1"})
    assert [*space.points()][:2] == [{"items": [32, 64], "nothing": None}, {"items": [32, 64], "nothing": 1}]


def test_points_of_an_interval_are_refused(small_app: App):
    with pytest.raises(ValueError, match="no number of points"):
        list(space_of(small_app, {"rate": "interval(0, 1)"}).points())


@st.composite
def spaces(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    params: dict[str, Any] = {"+a": "choice(x, y, z)", "+b": "range(0, 4)"}
    when: dict[str, Any] = {}
    for index in range(draw(st.integers(0, 4))):
        key = draw(st.sampled_from(["+a", "+b", *(f"+c{before}" for before in range(index))]))
        values = {"+a": "xyz", "+b": "0123"}.get(key, "45")
        chosen = ",".join(sorted(draw(st.sets(st.sampled_from(values), min_size=1))))
        when.setdefault(f"{key}={chosen}", {})[f"+c{index}"] = "choice(4, 5)"
    return params, when


@settings(max_examples=60)
@given(written=spaces())
def test_the_size_is_the_number_of_points_and_each_can_be_asked_for(small_app: App, written: Any):
    space = space_of(small_app, *written)
    points = list(space.points())
    assert len(points) == space.size() == len({json.dumps(point) for point in points})
    study = optuna.create_study()
    for point in points[:3] + points[-3:]:
        study.enqueue_trial(space.to_stored(point))
        assert space.sample(study.ask()) == point


# The same key twice.


def test_a_key_may_be_chosen_twice_where_both_exclude_each_other(small_app: App):
    when = {"model=mlp": {"rate": "interval(0, 1)"}, "model=cnn,linear": {"rate": "interval(1, 2)"}}
    assert space_of(small_app, {"model": MODEL}, when).keys == ("model", "rate")


@pytest.mark.parametrize(
    ("params", "when", "ways"),
    [
        (
            {"model": MODEL, "rate": "interval(0, 1)"},
            {"model=mlp": {"rate": "interval(1, 2)"}},
            "always and again where model=mlp",
        ),
        (
            {"model": MODEL, "name": "a, b"},
            {"model=mlp": {"rate": "interval(0, 1)"}, "name=b": {"rate": "interval(1, 2)"}},
            "where model=mlp and again where name=b",
        ),
    ],
)
def test_a_key_that_would_be_chosen_twice_is_refused(small_app: App, params: Any, when: Any, ways: str):
    with pytest.raises(ConfigError, match=f"digits.yaml: rate: is chosen {ways}; let these exclude each other"):
        space_of(small_app, params, when)


# To Optuna's names and values.


@pytest.fixture
def space(small_app: App) -> SearchSpace:
    params = {
        "model": MODEL,
        "rate": "tag(log, interval(1e-3, 1))",
        "items": "choice([32, 64], [])",
        "flag": "true, 1",
        "nothing": "range(0, 1, 0.25)",
    }
    when = {"model=mlp": {"depth": "range(1, 9, 2)"}, "model=cnn": {"depth": "range(1, 4)"}}
    return space_of(small_app, params, when)


def test_params_become_what_optuna_stores(space: SearchSpace):
    params = {"model": "mlp", "rate": 1, "items": [32, 64], "flag": 1, "nothing": 0.5, "depth": 7.0}
    stored = space.to_stored(params)
    assert stored == {
        "model": "mlp",
        "rate": 1.0,
        "items": "[32, 64]",
        "flag": "1",
        "nothing": 0.5,
        "depth (model=mlp)": 7,
    }
    study = optuna.create_study()
    study.enqueue_trial(stored)
    assert space.sample(study.ask()) == params


def test_what_optuna_stores_becomes_params_as_far_as_they_can_be_chosen(space: SearchSpace):
    params = {"model": "mlp", "rate": 1.0, "items": [32, 64], "flag": 1, "nothing": 0.5, "depth": 7}
    assert space.from_stored(space.to_stored(params)) == params
    assert space.from_stored({"model": "mlp", "rate": 7.0, "depth": 3, "other": 1}) == {"model": "mlp", "depth": 3}
    assert space.from_stored({"model": "linear", "depth (model=mlp)": 3}) == {"model": "linear"}
    assert space.from_stored({"model": "mlp", "depth (family=deep)": 3}) == {"model": "mlp", "depth": 3}


def test_what_is_not_given_is_sampled(space: SearchSpace):
    study = optuna.create_study()
    study.enqueue_trial(space.to_stored({"model": "cnn"}))
    params = space.sample(study.ask())
    assert params["model"] == "cnn"
    assert params["depth"] in (1, 2, 3)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"modle": "mlp"}, r"modle: it is not sampled; did you mean model\?"),
        ({"model": "resnet"}, "model: resnet cannot be chosen; choose from linear, mlp, cnn"),
        ({"rate": 2}, "rate: 2 cannot be chosen; choose from 0.001 to 1"),
        ({"rate": "fast"}, "rate: fast cannot be chosen"),
        ({"rate": True}, "rate: true cannot be chosen"),
        ({"nothing": 0.3}, "nothing: 0.3 cannot be chosen; choose from 0 to 0.75 in steps of 0.25"),
        ({"items": [32]}, r"items: \[32\] cannot be chosen; choose from \[32,64\], \[\]"),
        ({"flag": "true"}, "flag: 'true' cannot be chosen; choose from true, 1"),
        ({"model": "mlp", "depth": 2}, "depth: 2 cannot be chosen; choose from whole numbers 1 to 7 in steps of 2"),
        ({"model": "linear", "depth": 1}, "depth: it exists only where model=mlp or model=cnn; add that, or leave"),
        ({"depth": 1}, "depth: it exists only where model=mlp or model=cnn; add that, or leave"),
    ],
)
def test_what_cannot_be_chosen_is_refused_in_one_line(space: SearchSpace, params: dict[str, Any], told: str):
    with pytest.raises(ConfigError, match=f"^{told}") as refused:
        space.to_stored(params)
    assert "\n" not in str(refused.value)


# Examples of nested parameters.


def test_examples_reach_what_depends_on_a_choice_that_depends_on_another(small_app: App):
    when = {"depth=2": {"rate": "interval(0, 1)"}, "model=resnet,mlp": {"depth": "range(1, 4)"}}
    when = dict(reversed(when.items()))
    space = space_of(small_app, {"model": MODEL}, when)
    shown = [params for params in space.examples() if "rate" in params]
    assert shown == [{"model": "mlp", "depth": 2, "rate": 0.0}]


def test_conditions_may_name_a_range(small_app: App):
    space = space_of(small_app, {"rate": "range(0, 9)"}, {"rate=range(2, 4)": {"name": "a, b"}})
    assert space.size() == 9 + 2
    with pytest.raises(ConfigError, match=r"when: 'rate=interval.* names no values; write them as rate=1,2"):
        space_of(small_app, {"rate": "interval(0, 9)"}, {"rate=interval(2, 4)": {"name": "a, b"}})


# The overrides in their order.


def test_overrides_keep_the_order_of_the_command_line(small_app: App):
    arguments = ("db=small,large", "+db.user=someone", "rate=0.5", "name=choice(a,b)", "~nothing")
    parser = SpaceParser(small_app[0], source="digits.yaml", arguments=arguments)
    _, line = parser.space({"items": "choice([1], [2])", "flag": "false"}, {"db=large": {"db.shards": "1, 2"}})
    assert line.fixed == ["flag=false", "+db.user=someone", "rate=0.5", "~nothing"]
    filled = line.filled({"db": "large", "name": "b", "items": [2], "db.shards": 2, "custom": 1})
    assert filled == [
        "items=[2]",
        "flag=false",
        "db.shards=2",
        "db=large",
        "+db.user=someone",
        "rate=0.5",
        "name=b",
        "~nothing",
        "custom=1",
    ]


def test_a_key_with_a_package_or_a_plus_is_sampled_as_it_is_written(small_app: App):
    parser = SpaceParser(small_app[0], source="digits.yaml", arguments=("+db@other=small,large", "++rate=1,2"))
    space, line = parser.space({"+extra": "range(1, 3)"}, {})
    assert space.keys == ("+db@other", "++rate", "+extra")
    assert isinstance(line, Line)
    assert line.filled({"+db@other": "large", "++rate": 2, "+extra": 1}) == ["+extra=1", "+db@other=large", "++rate=2"]
