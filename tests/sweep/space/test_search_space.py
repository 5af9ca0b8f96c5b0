from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from besom.errors import ConfigError
from besom.sweep.space.overrides import Line
from besom.sweep.space.parser import SpaceParser
from besom.sweep.space.search_space import Condition, Parameter, Params, SearchSpace
from tests.conftest import App

Read = Callable[..., tuple[SearchSpace, Line]]


@pytest.fixture(scope="session")
def read(small_app: App) -> Read:
    """Return a function that parses a space from `params`, `when` and the command line's arguments."""

    def run(
        params: dict[str, Any] | None = None, when: dict[str, Any] | None = None, arguments: tuple[str, ...] = ()
    ) -> tuple[SearchSpace, Line]:
        parser = SpaceParser(small_app[0], source="digits.yaml", arguments=arguments)
        return parser.space(params or {}, when or {})

    return run


def only(found: tuple[SearchSpace, Line]) -> Parameter:
    space, fixed = found
    assert fixed.fixed == []
    (parameter,) = space.parameters
    return parameter


def samples(space: SearchSpace, count: int = 30) -> list[tuple[Params, dict[str, Any]]]:
    """Return pairs of a value in the config and the value that Optuna stores."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(count)]
    return [(space.sample(trial), trial.params) for trial in trials]


# From Hydra's grammar to Optuna's distributions.


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("interval(1, 10)", FloatDistribution(1.0, 10.0)),
        ("interval(start=0.5, end=2)", FloatDistribution(0.5, 2.0)),
        ("tag(log, interval(1e-4, 1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("int(interval(1, 10))", IntDistribution(1, 10)),
        ("int(tag(log, interval(1, 100)))", IntDistribution(1, 100, log=True)),
        ("tag(log, int(interval(1, 100)))", IntDistribution(1, 100, log=True)),
        ("range(1, 4)", IntDistribution(1, 3)),
        ("range(4)", IntDistribution(0, 3)),
        ("range(1, 10, 4)", IntDistribution(1, 9, step=4)),
        ("range(1, 9, 4)", IntDistribution(1, 5, step=4)),
        ("range(5, 1, -1)", IntDistribution(2, 5)),
        ("sort(range(1, 5), reverse=true)", IntDistribution(1, 4)),
        ("range(3, 1, -0.5)", FloatDistribution(1.5, 3.0, step=0.5)),
        ("range(0.5, 5.5, step=1)", FloatDistribution(0.5, 4.5, step=1.0)),
        ("shuffle(range(1, 3))", CategoricalDistribution([1, 2])),
        ("int(choice(1.0, 2.0))", CategoricalDistribution([1, 2])),
        ("range(0, 1, 0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("float(range(1, 4))", FloatDistribution(1.0, 3.0, step=1.0)),
        ("tag(log, range(1, 100))", IntDistribution(1, 99, log=True)),
        ("choice(a, b)", CategoricalDistribution(["a", "b"])),
        ("a, b", CategoricalDistribution(["a", "b"])),
        ("a, null", CategoricalDistribution(["a", None])),
        ("choice(1, 2.5, true, word)", CategoricalDistribution([1, 2.5, "True", "word"])),
        ("choice('a, b', \"it's\")", CategoricalDistribution(["a, b", "it's"])),
        ("sort(choice(3, 1, 2))", CategoricalDistribution([1, 2, 3])),
    ],
)
def test_each_sweep_of_hydras_grammar_becomes_a_distribution(read: Read, text: str, distribution: Any):
    assert only(read({"rate": text})).distribution == distribution


def test_a_glob_chooses_among_the_options_of_a_group(read: Read):
    assert only(read({"db": "glob(*)"})).distribution == CategoricalDistribution(["large", "small"])
    assert only(read({"db": "glob(*, exclude=s*)"})).distribution == CategoricalDistribution(["large"])


def test_a_shuffled_choice_is_the_same_at_each_start(read: Read):
    shuffled = ", ".join("abcdefgh")
    assert only(read({"name": f"shuffle(choice({shuffled}))"})).distribution == CategoricalDistribution(
        list("abcdefgh")
    )


def test_lists_and_dicts_can_be_chosen_and_reach_the_config_whole(read: Read):
    space, _ = read({"items": "choice([32, 64], [])", "table": "choice({a: 1}, {b: [x, 'y z']})"})
    seen = samples(space)
    assert [32, 64] in [params["items"] for params, _ in seen]
    assert {"b": ["x", "y z"]} in [params["table"] for params, _ in seen]
    assert all(isinstance(stored["items"], str) for _, stored in seen)


def test_a_range_never_yields_its_stop(read: Read):
    space, _ = read({"items": "range(1, 4)", "rate": "range(0.1, 0.5, 0.1)"})
    seen = samples(space, 100)
    assert {params["items"] for params, _ in seen} == {1, 2, 3}
    assert max(params["rate"] for params, _ in seen) == pytest.approx(0.4)


@given(low=st.integers(-50, 50), width=st.integers(1, 30), step=st.integers(1, 7))
def test_a_range_has_the_points_of_pythons_range(read: Read, low: int, width: int, step: int):
    distribution = only(read({"items": f"range({low}, {low + width}, {step})"})).distribution
    assert isinstance(distribution, IntDistribution)
    points = range(distribution.low, distribution.high + 1, distribution.step)
    assert list(points) == list(range(low, low + width, step))


def test_a_plain_value_in_the_file_is_the_same_for_each_trial(read: Read):
    space, fixed = read({"rate": 0.5, "name": "x", "flag": False, "nothing": None, "items": [1, None]})
    assert space.parameters == ()
    assert fixed.fixed == ["rate=0.5", "name=x", "flag=false", "nothing=null", "items=[1,null]"]


# Conditions.

MODEL = "choice(linear, mlp, cnn)"


def test_a_parameter_under_when_is_sampled_and_recorded_only_where_its_condition_holds(read: Read):
    space, _ = read({"model": MODEL}, {"model=mlp": {"depth": "range(1, 4)"}})
    for params, stored in samples(space):
        assert ("depth" in params) == (params["model"] == "mlp")
        assert params == stored


def test_one_of_several_values_is_enough(read: Read):
    space, _ = read({"model": MODEL}, {"model=mlp,cnn": {"depth": "range(1, 4)"}})
    for params, _ in samples(space):
        assert ("depth" in params) == (params["model"] != "linear")


def test_nested_conditions_must_all_hold(read: Read):
    when = {"model=mlp": {"depth": "range(1, 4)", "when": {"depth=2,3": {"skip": "choice(true, false)"}}}}
    space, _ = read({"model": MODEL}, when)
    for params, _ in samples(space, 60):
        assert ("skip" in params) == (params["model"] == "mlp" and params["depth"] > 1)


def test_the_same_key_in_two_branches_has_a_distribution_in_each(read: Read):
    when = {"model=mlp": {"width": "choice(32, 64)"}, "model=cnn": {"width": "range(1, 4)"}}
    space, _ = read({"model": MODEL}, when)
    assert space.keys == ("model", "width")
    for params, stored in samples(space):
        expected: tuple[int, ...] = {"linear": (), "mlp": (32, 64), "cnn": (1, 2, 3)}[params["model"]]
        assert ("width" in params) == bool(expected)
        assert params.get("width") in (*expected, None)
        assert set(stored) == {"model"} | ({f"width (model={params['model']})"} if expected else set())


def test_a_condition_on_null_does_not_hold_for_a_parameter_that_is_not_there(read: Read):
    when = {"model=mlp": {"drop": "a, null"}, "drop=null": {"width": "range(1, 4)"}}
    space, _ = read({"model": MODEL}, when)
    for params, _ in samples(space, 60):
        assert ("width" in params) == ("drop" in params and params["drop"] is None)


@given(data=st.data())
def test_what_is_sampled_is_exactly_what_is_active(data: st.DataObject):
    count = data.draw(st.integers(1, 6))
    parameters: list[Parameter] = []
    for index in range(count):
        spoken_of = data.draw(st.lists(st.sampled_from(parameters), unique_by=id)) if parameters else []
        conditions = tuple(
            Condition(key=other.key, values=tuple(data.draw(st.sets(st.sampled_from("abc"), min_size=1))))
            for other in spoken_of
        )
        distribution = CategoricalDistribution(("a", "b", "c"))
        parameters.append(
            Parameter(key=f"k{index}", name=f"k{index}", distribution=distribution, labels={}, conditions=conditions)
        )
    space = SearchSpace(parameters=tuple(parameters))
    for params, stored in samples(space, 5):
        assert params == stored
        for parameter in parameters:
            holds = all(params.get(c.key) in c.values for c in parameter.conditions)
            assert (parameter.key in params) == holds


def test_examples_show_every_choice_of_every_parameter_at_least_once(read: Read):
    when = {"model=mlp": {"act": "choice(relu, tanh)", "when": {"act=tanh": {"gain": "interval(1, 2)"}}}}
    space, _ = read({"model": MODEL, "rate": "interval(0, 1)"}, when)
    shown = {(key, value) for params in space.examples() for key, value in params.items()}
    assert shown == {
        *(("model", name) for name in ("linear", "mlp", "cnn")),
        *(("act", name) for name in ("relu", "tanh")),
        ("gain", 1.0),
        ("rate", 0.0),
    }
    assert all(set(params) <= {"model", "rate"} for params in space.examples() if params["model"] != "mlp")


# The command line takes precedence over the file.


def test_a_plain_argument_pins_a_parameter(read: Read):
    space, fixed = read({"rate": "interval(0, 1)", "items": "range(1, 4)"}, arguments=("rate=0.5",))
    assert space.keys == ("items",)
    assert fixed.fixed == ["rate=0.5"]


def test_a_sweep_as_an_argument_replaces_the_files(read: Read):
    space, _ = read({"rate": "interval(0, 1)"}, arguments=("rate=choice(1, 2)",))
    assert only((space, Line.of([]))).distribution == CategoricalDistribution([1, 2])


def test_other_arguments_are_added_sampled_or_the_same_for_each_trial(read: Read):
    space, fixed = read({"rate": "interval(0, 1)"}, arguments=("name=a,b", "flag=false", "+extra=1", "~nothing"))
    assert space.keys == ("name", "rate")
    assert fixed.fixed == ["flag=false", "+extra=1", "~nothing"]


def test_a_pinned_branch_is_always_taken_and_the_others_never(read: Read):
    when = {"model=mlp": {"depth": "range(1, 4)"}, "model=cnn": {"kernel": "choice(3, 5)"}}
    for given_in in ({"params": {"model": "mlp"}}, {"params": {"model": MODEL}, "arguments": ("model=mlp",)}):
        space, fixed = read(when=when, **given_in)
        assert space.keys == ("depth",)
        assert space.parameters[0].conditions == ()
        assert fixed.fixed == ["model=mlp"]


def test_an_argument_under_when_still_exists_only_where_its_condition_holds(read: Read):
    space, fixed = read({"model": MODEL}, {"model=mlp": {"depth": "range(1, 4)"}}, arguments=("depth=2",))
    assert fixed.fixed == []
    for params, _ in samples(space):
        assert params.get("depth") == (2 if params["model"] == "mlp" else None)


# The signature of a resumed study.


def test_the_signature_tells_distributions_and_conditions_apart(read: Read):
    def signature(choice: str, condition: str) -> dict[str, str]:
        return read({"model": MODEL}, {condition: {"width": choice}})[0].signature()

    first = signature("choice(1, 2)", "model=mlp")
    assert first == signature("choice(1,2)", "model=mlp")
    assert first != signature("choice(1, 3)", "model=mlp")
    assert first != signature("choice(1, 2)", "model=cnn")


# Errors: each message names the file and the key.


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("interval(2, 1)", "low 2 is above high 1"),
        ("interval(1, inf)", "finite"),
        ("tag(log, interval(0, 1))", "log scale cannot start at 0"),
        ("tag(log, range(1, 9, 2))", "log scale takes no step"),
        ("range(4, 1)", "is empty"),
        ("range(1, 5, -1)", "is empty"),
        ("tag(log, choice(1, 2))", "a choice has no log scale"),
        ("choice(x, x)", "the same value twice"),
        ("choice()", r"choice\(\)"),
        ("glob(nothing*)", "nothing to choose from"),
        ("interval(a, b)", r"interval\(a, b\)"),
        ("choice(1, 2", r"choice\(1, 2"),
        ("nosuch(1, 2)", r"nosuch\(1, 2\)"),
    ],
)
def test_a_range_that_cannot_be_sampled_is_refused_with_file_and_key(read: Read, text: str, told: str):
    with pytest.raises(ConfigError, match=told) as refused:
        read({"rate": text})
    assert str(refused.value).startswith("digits.yaml: rate")
    assert "\n" not in str(refused.value)


def test_a_condition_on_what_is_not_sampled_is_refused(read: Read):
    with pytest.raises(ConfigError, match=r"digits.yaml: when: 'modle=mlp' speaks of modle, .*add it to params"):
        read({"model": MODEL}, {"modle=mlp": {"depth": "range(1, 4)"}})


def test_a_condition_on_what_is_sampled_only_later_is_refused(read: Read):
    with pytest.raises(ConfigError, match="speaks of depth"):
        read({"model": MODEL}, {"depth=1": {"width": "range(1, 4)"}, "model=mlp": {"depth": "range(1, 4)"}})


@pytest.mark.parametrize(("params", "condition"), [(MODEL, "model=resnet"), ("range(1, 4)", "model=4")])
def test_a_condition_that_can_never_hold_is_refused(read: Read, params: str, condition: str):
    with pytest.raises(ConfigError, match=f"digits.yaml: when: '{condition}' can never hold"):
        read({"model": params}, {condition: {"depth": "range(1, 4)"}})


def test_a_condition_without_parameters_is_refused(read: Read):
    with pytest.raises(ConfigError, match=r"digits\.yaml: when: 'model=mlp' needs parameters below it"):
        read({"model": MODEL}, {"model=mlp": None})


def test_a_condition_that_is_no_override_is_refused(read: Read):
    with pytest.raises(ConfigError, match=r"digits\.yaml: when: model"):
        read({"model": MODEL}, {"model": {"depth": "range(1, 4)"}})


def test_a_mistake_on_the_command_line_is_told_of_as_such(read: Read):
    with pytest.raises(ConfigError, match=r"command line: rate=interval\(1"):
        read(arguments=("rate=interval(1",))
