from __future__ import annotations

import math
import operator
from collections.abc import Callable

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from besom.errors import ConfigError
from besom.sweep.space.constraints import Constraint, parse_constraints
from besom.sweep.spec import SweepSpec
from besom.sweep.study.samplers import build_sampler
from besom.sweep.study.study import set_constraints

METRICS = {
    "cost/params": 40000.0,
    "val/loss": 0.5,
    "train/acc": 0.95,
    "val/acc": 0.8,
    "val/acc@5": 0.9,
    "f1.macro": 0.0,
}


def only(text: str) -> Constraint:
    (constraint,) = parse_constraints([text], "digits.yaml")
    return constraint


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("cost/params <= 50000", -10000),
        ("cost/params<=3e4", 10000),
        ("val/loss <= 0.5", 0),
        ("val/loss >= 0.5", 0),
        ("train/acc - val/acc <= 0.1", 0.05),
        ("train/acc-val/acc <= 0.1", 0.05),
        ("0.1 >= train/acc - val/acc", 0.05),
        ("val/acc@5 > 0.8", -0.1),
        ("2 * val/loss + 1 <= 3", -1),
        ("val/loss * 2 * val/acc <= 1", -0.2),
        ("val/loss <= -1", 1.5),
        ("-val/loss <= -.5 + f1.macro", 0),
        ("1 - -1 <= val/loss * -2", 3),
        ("(train/acc - val/acc) / val/acc <= 0.1", 0.0875),
        ("2 * (val/loss + 1) <= -(1 - 3)", 1),
        ("1/val/loss <= val/loss /2", 1.75),
        ("8 / 2 / 2 - 1 - 1 <= f1.macro", 0),
    ],
)
def test_a_constraint_is_zero_or_less_where_it_holds(text: str, value: float):
    assert only(text).value(METRICS) == pytest.approx(value)


@pytest.mark.parametrize("text", ["val/loss < 0.5", "val/loss > 0.5"])
def test_a_strict_constraint_does_not_hold_at_its_bound(text: str):
    assert only(text).value(METRICS) > 0
    assert only(text.replace("0.5", "0.5 - 1" if ">" in text else "1.5")).value(METRICS) <= 0


@given(value=st.floats(allow_nan=False), bound=st.floats(-1e9, 1e9))
def test_it_holds_exactly_where_python_says_so(value: float, bound: float):
    for sign, expected in (("<=", value <= bound), ("<", value < bound), (">=", value >= bound), (">", value > bound)):
        assert (only(f"m {sign} {bound!r}").value({"m": value}) <= 0) == expected


def expressions() -> st.SearchStrategy[tuple[str, float]]:
    """Expressions in parentheses with their values; NaN where one divides by zero."""

    def joined(sign: str, left: tuple[str, float], right: tuple[str, float]) -> tuple[str, float]:
        apply = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}[sign]
        value = math.nan if sign == "/" and right[1] == 0 else apply(left[1], right[1])
        return f"({left[0]} {sign} {right[0]})", value

    leaves = st.sampled_from([*METRICS.items(), ("2", 2.0), ("0.5", 0.5), ("-1e3", -1000.0)])
    return st.recursive(leaves, lambda inner: st.builds(joined, st.sampled_from("+-*/"), inner, inner))


@given(left=expressions(), right=expressions())
def test_an_expression_has_the_value_that_python_gives_it(left: tuple[str, float], right: tuple[str, float]):
    expected = left[1] - right[1]
    value = only(f"val/loss * 0 + {left[0]} <= {right[0]}").value(METRICS)
    assert value == (math.inf if math.isnan(expected) else pytest.approx(expected))


def test_a_division_by_zero_does_not_hold():
    assert only("1 / f1.macro <= 1").value(METRICS) == math.inf
    assert only("1 / f1.macro >= 1").value(METRICS) == math.inf
    assert only("f1.macro / (val/loss - 0.5) <= 1").value(METRICS) == math.inf


def test_what_is_not_a_number_does_not_hold():
    assert only("val/loss <= 1").value({"val/loss": math.nan}) == math.inf
    assert only("val/loss >= 1").value({"val/loss": math.nan}) == math.inf


def test_optuna_takes_it_for_what_it_is():
    study = optuna.create_study()
    for loss in (2.0, 0.5, 0.7):
        trial = study.ask()
        constraint = only("val/loss >= 0.6")
        set_constraints(trial, {constraint.key: constraint.value({"val/loss": loss})})
        study.tell(trial, loss)
    assert study.best_trial.value == 0.7


def test_the_sampler_keeps_away_from_what_breaks_a_constraint(make_spec: Callable[..., SweepSpec]):
    spec, study = make_spec(constraints=("size <= 0.4",)), optuna.create_study(direction="maximize")
    asked = []
    for number in range(40):
        study.sampler = build_sampler(spec.search, number)
        trial = study.ask()
        asked.append(trial.suggest_float("size", 0, 1))
        set_constraints(trial, {"size <= 0.4": asked[-1] - 0.4})
        study.tell(trial, asked[-1])
    assert sum(size <= 0.4 for size in asked[20:]) > 4  # else none, or one


def test_its_key_is_its_text_and_it_names_its_metrics():
    constraint = only(" train/acc-val/acc   <=0.1")
    assert constraint.key == "train/acc - val/acc <= 0.1"
    assert constraint.metrics == ("train/acc", "val/acc")
    assert only("((val/loss)*2)+1<(3)").key == "val/loss * 2 + 1 < 3"


def test_a_metric_that_was_never_measured_is_named():
    with pytest.raises(ConfigError, match=r"'val/los <= 1' speaks of val/los, which .*; did you mean val/loss\?"):
        only("val/los <= 1").value(METRICS)


@pytest.mark.parametrize(
    "text",
    [
        "val/loss",
        "",
        "0 < val/loss < 1",
        "val/loss <=",
        "<= 1",
        "val/loss + <= 1",
        "val/loss * * 2 <= 1",
        "val/loss 2 <= 1",
        "val/loss == 1",
        "val/loss ** 2 <= 1",
        "val/loss // 2 <= 1",
        "(val/loss <= 1",
        "(val/loss < 1) + 1 <= 1",
        "val/loss <= 1e",
        "val/loss <= 5x",
        "val/loss <= 2j",
        "val/loss <= 'ü'",
        "val/loss.append <= [1]",
        "max(val/loss, 1) <= 1",
        "lambda: val/loss <= 1",
        "val/loss <= 1 and val/acc >= 1",
        "__import__('os').system('x') <= 1",
        "-" * 5000 + "val/loss <= 1",
        "val/loss <= \0",
    ],
)
def test_anything_but_a_comparison_of_arithmetic_is_refused_in_one_line(text: str):
    with pytest.raises(ConfigError, match="is not one comparison of metrics and numbers; write it like") as refused:
        only(text)
    assert str(refused.value).startswith(f"digits.yaml: hydra.sweeper.constraints: '{text}' is ")
    assert "\n" not in str(refused.value)


def test_a_comparison_of_numbers_is_refused():
    with pytest.raises(ConfigError, match="'1 < 2' speaks of no metric; write it like"):
        only("1 < 2")


@pytest.mark.parametrize("name", ["lambda", "inf", "None", "x", "e5", "größe"])
def test_a_metric_may_have_any_name(name: str):
    assert only(f"1 / {name} + {name}/2nd <= 1e5").metrics == (f"{name}/2nd", name)


def test_the_same_constraint_twice_is_refused():
    with pytest.raises(ConfigError, match="'a <= 1' is there twice"):
        parse_constraints(["a <= 1", "(a)<=1"], "digits.yaml")
