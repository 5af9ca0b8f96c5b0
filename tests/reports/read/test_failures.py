"""Failures by cause, and what they had in common."""

from __future__ import annotations

import random
from typing import Any

import pytest

from besom.reports.read.failures import cause, group_failures, in_common

SAME = [
    (
        "CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 7.79 GiB total)",
        "CUDA out of memory. Tried to allocate 512.00 MiB (GPU 3; 7.79 GiB total)",
    ),
    (
        "worker of slot 3 (pid 12345) died of SIGKILL; its log is /home/me/mlruns/logs/a/worker-3.log",
        "worker of slot 0 (pid 9) died of SIGKILL; its log is /data/mlruns/logs/b/worker-0.log",
    ),
    (
        "mat1 and mat2 shapes cannot be multiplied (64x32 and 16x8)",
        "mat1 and mat2 shapes cannot be multiplied (1x2 and 4x8)",
    ),
    ("<Net object at 0x7f12ab> is odd", "<Net object at 0x55d0> is odd"),
    ("no file './a/b.csv'", "no file '../c.csv'"),
    ("lr -3e-05 is low", "lr 1 is low"),
    ("run 4ba3b408759b42e99d4b0cad8ea04da9 is gone", "run 0123456789abcdef0123456789abcdef is gone"),
    ("val/loss is nan after epoch 3", "val/loss is nan\nafter epoch 12"),
    ("loss is -0.1234567890123456", "loss is 0.6543210987654321"),
    ("loss is -.5", "loss is 1234567890123"),
    ("loss is -inf", "loss is inf"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_reasons_that_differ_in_particulars_are_one_cause(one: str, other: str) -> None:
    assert cause(one) == cause(other)


def test_what_tells_causes_apart_stays() -> None:
    reasons = [
        "val/loss is nan",
        "val/loss is inf",
        "val/acc is nan",
        "train/loss is nan",
        "resnet50 failed",
        "resnet18 failed",
        "KeyError: 'a'",
    ]
    assert len(set(map(cause, reasons))) == len(reasons)


def test_failures_are_grouped_with_the_most_frequent_cause_first() -> None:
    failed: dict[int, tuple[str, dict[str, Any]]] = {
        trial: (f"ValueError: no luck with {trial}", {}) for trial in (12, 3, 4, 5, 6, 7)
    }
    failed[1] = ("postgresql://me:secret@host/db is\nnot there", {})
    most, least = group_failures(failed, [])
    assert str(most) == "6 failed: ValueError: no luck with 3…12   (trials 3, 4, 5, 6, 7, …)"
    assert str(least) == "1 failed: postgresql://me:***@host/db is not there   (trial 1)"


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        (["no luck with 3", "no luck with 3"], "no luck with 3"),
        (["lr 0.5 at 1", "lr -0.25 at 1", "lr 0.125 at 1"], "lr -0.25…0.5 at 1"),
        (["no file /a/b.csv at 0x7f", "no file /c.csv at 0x55"], "no file … at …"),
        (["(1x2 and 16x8)", "(64x32 and 16x8)"], "(… and 16x8)"),
        (["item # is odd", "item 7 is odd"], "item # is odd"),
    ],
)
def test_what_is_told_of_several_trials_holds_of_all_of_them(reasons: list[str], told: str) -> None:
    (group,) = group_failures({number: (reason, {}) for number, reason in enumerate(reasons)}, [])
    assert group.reason == told


def trials(count: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [
        {
            "optimizer": draw.choice(["sgd", "adam", "rmsprop"]),
            "optimizer.lr": 10 ** draw.uniform(-3, -1),
            "model.width": draw.choice([32, 64]),
            "model.depth": draw.randint(1, 10),
            "model.hidden": [1, 2],
            "data.scale": None,
        }
        for _ in range(count)
    ]


def told(failing: Any) -> str | None:
    everything = trials()
    return in_common([one for one in everything if failing(one)], [one for one in everything if not failing(one)])


def test_a_value_that_all_failures_share_is_named() -> None:
    assert told(lambda one: one["optimizer"] == "sgd") == "all 17 with optimizer=sgd; none of the 43 others"


def test_a_value_and_a_range_together_are_named() -> None:
    assert (
        told(lambda one: one["optimizer"] == "sgd" and one["optimizer.lr"] > 0.01)
        == "all 9 with optimizer=sgd and optimizer.lr above 0.009; none of the 51 others"
    )


def test_a_range_of_whole_numbers_is_named_by_its_end() -> None:
    assert told(lambda one: one["model.depth"] >= 8) == "all 20 with model.depth 8 or more; none of the 40 others"
    assert told(lambda one: one["model.depth"] <= 2) == "all 14 with model.depth 2 or less; none of the 46 others"


def test_one_failure_of_another_kind_does_not_hide_what_the_rest_share() -> None:
    everything = trials()
    failed = [one for one in everything if one["optimizer"] == "sgd"]
    stray, *others = [one for one in everything if one["optimizer"] != "sgd"]
    assert in_common([*failed, stray], others) == "17 of 18 with optimizer=sgd; none of the 42 others"


def test_a_range_that_is_told_counts_whatever_lies_in_it() -> None:
    failed = [{"lr": 0.50 + 0.01 * index} for index in range(17)]  # the first one is nearest to the others
    others = [{"lr": 0.01 * index} for index in range(1, 40)]
    assert in_common(failed, others) == "all 17 with lr above 0.4; none of the 39 others"
    failed, others = [{"depth": 7}, *[{"depth": 8 + index % 3} for index in range(16)]], [{"depth": 1}] * 30
    assert in_common(failed, others) == "all 17 with depth 7 or more; none of the 30 others"


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_failures_by_chance_have_hardly_ever_anything_in_common(count: int) -> None:
    found = []
    for seed in range(100):
        everything = trials(seed=seed)
        draw = random.Random(seed)
        failed = [everything.pop(draw.randrange(len(everything))) for _ in range(count)]
        found.append(in_common(failed, everything))
    assert sum(one is not None for one in found) <= 3


def test_there_is_nothing_to_say_without_others_or_of_one_failure() -> None:
    everything = trials()
    assert in_common(everything, []) is None
    assert in_common(everything[:1], everything[1:]) is None
    assert in_common([], everything) is None
    assert in_common([{}, {}, {}], [{}, {}, {}]) is None


def test_a_parameter_that_only_some_trials_have_is_compared_where_it_is() -> None:
    failed = [{"model": "mlp", "model.depth": depth} for depth in (8, 9, 9, 10, 10)]
    others: list[dict[str, Any]] = [{"model": "linear"}] * 10 + [{"model": "mlp", "model.depth": 2}] * 10
    assert in_common(failed, others) == "all 5 with model.depth 8 or more; none of the 20 others"
