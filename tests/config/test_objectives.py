from __future__ import annotations

from typing import Any

import pytest

from besom.config.objectives import leading, read_objectives
from besom.errors import ConfigError


@pytest.mark.parametrize(
    ("objective", "direction", "told"),
    [
        ("val/acc", "maximize", ["maximize val/acc"]),
        (["val/acc", "val/f1"], "maximize", ["maximize val/acc", "maximize val/f1"]),
        (["val/acc", "cost/params"], "maximize", ["maximize val/acc", "minimize cost/params"]),
        (["val/acc", "val/loss"], ["maximize", "minimize"], ["maximize val/acc", "minimize val/loss"]),
    ],
)
def test_each_objective_has_its_direction(objective: Any, direction: Any, told: list[str]):
    assert [str(one) for one in read_objectives({"objective": objective, "direction": direction})] == told


@pytest.mark.parametrize(
    ("objective", "direction", "line"),
    [
        ("val/acc", "up", "direction: 'up' is unknown; use minimize or maximize"),
        (["val/acc", "val/acc"], "maximize", "must name one metric, or several different ones"),
        ([], "maximize", "must name one metric"),
        (["a", "b", "c"], ["maximize", "minimize"], "2 directions for 3 objectives"),
    ],
)
def test_objectives_and_directions_that_do_not_go_together_are_refused(objective: Any, direction: Any, line: str):
    with pytest.raises(ConfigError, match=line):
        read_objectives({"objective": objective, "direction": direction})


def test_epochs_are_compared_by_the_first_objective_that_each_of_them_has():
    objectives = read_objectives({"objective": ["cost/params", "val/acc"], "direction": "maximize"})
    assert leading(objectives).name == "val/acc"
    with pytest.raises(ConfigError, match="cost/params is a cost"):
        leading(objectives[:1])


@pytest.mark.parametrize(
    ("name", "test"), [("val/acc", "test/acc"), ("val_acc", "test_acc"), ("val_top/5", "test_top/5"), ("f1", "test/f1")]
)
def test_the_metric_on_the_test_part_is_named_as_the_objective_is(name: str, test: str):
    assert read_objectives({"objective": name, "direction": "maximize"})[0].test_metric == test
