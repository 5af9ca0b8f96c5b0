"""The number of members that train as one stack: the decision, the memory, and that measuring leaves no trace."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from besom.bundle.member import Member
from besom.bundle.size import Costs, MeasuredSize, Sizing, best_size, bytes_of, count_fitting, cut
from besom.bundle.timing import Timing
from besom.data import InMemoryDataModule
from besom.errors import TrialPruned
from besom.training.fit import build_data
from tests.bundle.trials import Config, End, Talk, alone, assert_same, changed, optimizer, together

Base = Callable[..., Config]
Told = list[tuple[int, int, int]]

CPU = torch.device("cpu")
PLENTY = 1 << 40


def sized(told: Told | None = None, **keys: Any) -> Sizing:
    """A decision for one slot with plenty of memory, but for what the test changes."""
    words = [] if told is None else told
    usual: dict[str, Any] = {
        "bundle_key": "one",
        "auto": False,
        "slots": 1,
        "measured": {},
        "free": lambda device: PLENTY,
    }
    return Sizing(on_sized=lambda *word: words.append(word), **{**usual, **keys})


def variety(base: Config) -> list[Config]:
    kinds = [("SGD", 0.0, "relu"), ("Adam", 0.3, "gelu"), ("RMSprop", 0.0, "tanh"), ("Adagrad", 0.5, "relu")]
    return [
        changed(
            base,
            optimizer=optimizer(kind, lr=0.01),
            model={**base["model"], "dropout": dropout, "activation": activation, "seed": seed},
        )
        for seed, (kind, dropout, activation) in enumerate(kinds)
    ]


def shared(ends: Sequence[End]) -> list[int]:
    """Return the number of trials that each shared its pass with."""
    return [end.talk.about.get("bundle", 1) for end in ends]


# What pays.


def of_each(cost: Callable[[range], float]) -> Costs:
    """Return the costs of parts of many members, each part by itself."""
    return lambda parts: [cost(range(64)[part]) for part in parts]


@pytest.mark.parametrize(
    ("costs", "size"),
    [
        ({1: 10.0, 2: 10.0}, 1),  # wide layers, or anything else that gains nothing
        ({1: 10.0, 2: 12.0}, 1),
        ({1: 10.0, 2: 6.0, 4: 6.1}, 2),
        ({1: 10.0, 2: 6.0, 4: 5.8}, 2),  # faster, but not clearly so
        ({1: 10.0, 2: 6.0, 4: 4.0, 8: 3.0}, 8),
    ],
)
def test_twice_the_lanes_are_taken_as_long_as_they_are_clearly_faster(costs: Mapping[int, float], size: int):
    assert best_size(8, of_each(lambda members: len(members) * costs[len(members)])) == size


def test_lanes_of_which_some_are_wide_are_compared_with_themselves():
    wide = {0, 1}  # a step of these costs as much in any company, of others half as much in twice the company

    def cost(members: range) -> float:
        return sum(100 if member in wide else 10 / len(members) for member in members)

    assert best_size(8, of_each(cost)) == 1
    assert best_size(8, of_each(lambda members: cost(range(members.start + 2, members.stop + 2)))) == 8


def test_what_has_paid_so_far_is_taken_when_the_time_is_up():
    time = iter([True, True, False])
    assert best_size(64, of_each(lambda members: 1.0), has_time=lambda: next(time)) == 4


@given(
    members=st.integers(1, 64),
    begin=st.integers(1, 64),
    own=st.lists(st.floats(0, 10), min_size=64, max_size=64),
    fixed=st.floats(0.01, 100),
)
def test_a_size_is_one_of_which_each_doubling_paid_and_the_next_one_does_not(
    members: int, begin: int, own: list[float], fixed: float
):
    asked: set[int] = set()

    def cost(part: range) -> float:
        asked.update(part)
        return fixed + sum(own[member] for member in part)

    def pays(size: int) -> bool:
        more = min(2 * size, members)
        return cost(range(more)) <= 0.95 * (cost(range(size)) + cost(range(size, more)))

    begin = min(begin, members)
    size = best_size(members, of_each(cost), start=begin)
    assert asked <= set(range(members))
    assert begin <= size <= members
    passed = [one for one in (begin * 2**power for power in range(7)) if one < size]
    assert all(pays(one) for one in passed)
    assert size == members or not pays(size)


@given(count=st.integers(1, 70), size=st.integers(1, 70))
def test_parts_are_as_few_and_as_even_as_they_can_be(count: int, size: int):
    parts = cut(range(count), size)
    assert [item for part in parts for item in part] == list(range(count))
    assert len(parts) == -(-count // size)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert max(map(len, parts)) <= size


# Measuring.


def members_of(configs: Sequence[Config], folder: Path) -> tuple[list[Member], InMemoryDataModule]:
    data = build_data(configs[0])
    assert isinstance(data, InMemoryDataModule)
    return [Member(trial, config, data, Talk(), folder) for trial, config in enumerate(configs)], data


def everything(members: Sequence[Member]) -> list[Any]:
    """Return the tensors of members: parameters and optimizer states."""
    return [
        [list(member.module.state_dict().values()), [list(one.values()) for one in member.optimizer.state.values()]]
        for member in members
    ]


def test_a_probe_takes_steps_of_copies_and_touches_nothing_else(base: Base, tmp_path: Path):
    members, data = members_of(variety(base()), tmp_path)
    before, random = copy.deepcopy(everything(members)), torch.get_rng_state()
    timing = Timing(members, data, CPU, epochs=4)
    costs = timing.epochs_s([slice(0, 1), slice(1, 2), slice(0, 2), slice(0, 4)])
    assert all(cost > 0 for cost in costs)
    torch.testing.assert_close(everything(members), before, rtol=0, atol=0)
    assert all(parameter.grad is None for member in members for parameter in member.module.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_lanes_that_were_measured_come_to_the_same_bit_for_bit(base: Base, tmp_path: Path):
    class Measuring(Sizing):
        """Measures, and takes all members, whatever the result."""

        def size(self, members: Sequence[Member], data: InMemoryDataModule, config: Mapping[str, Any]) -> int:
            super().size(members, data, config)
            return len(members)

    told: Told = []
    keys = vars(sized(told, auto=True))
    configs = variety(base())
    for end, other in zip(
        together(configs, tmp_path, sizing=Measuring(**keys)), together(configs, tmp_path), strict=True
    ):
        assert end.talk.epochs == other.talk.epochs
        assert end.files == other.files
        assert end.outcome == other.outcome
    assert len(told) == 1


def test_a_company_is_measured_once_and_for_more_lanes_as_long_as_all_pay(base: Base, tmp_path: Path):
    configs, found = variety(base()), dict[str, MeasuredSize]()
    told: Told = []
    together(configs, tmp_path, sizing=sized(told, auto=True, measured=found))
    assert [(trial, of) for trial, _, of in told] == [(0, 4)]
    assert found == {"one": MeasuredSize(told[0][1], 4)}
    for known, words in ((MeasuredSize(2, 4), 0), (MeasuredSize(4, 4), 0), (MeasuredSize(2, 2), 1)):
        told.clear()
        together(configs, tmp_path, sizing=sized(told, auto=True, measured={"one": known}))
        assert len(told) == words


def test_a_bundle_is_trained_in_the_parts_that_were_found_to_pay(base: Base, tmp_path: Path):
    configs = variety(base())
    ends = together(configs, tmp_path, sizing=sized(auto=True, measured={"one": MeasuredSize(2, 4)}))
    assert shared(ends) == [2, 2, 2, 2]
    for end, config in zip(ends, configs, strict=True):
        assert_same(end, alone(config, tmp_path))


def test_where_nothing_pays_each_trial_trains_just_as_it_would_alone(base: Base, tmp_path: Path):
    configs = [*variety(base()), changed(base(), model={**base()["model"], "dropout": 2})]
    ends = together(configs, tmp_path, sizing=sized(auto=True, measured={"one": MeasuredSize(1, 4)}))
    for end, config in zip(ends, configs, strict=True):
        unbundled = alone(config, tmp_path)
        assert (end.talk, end.files) == (unbundled.talk, unbundled.files)
        assert str(end.came_to) == str(unbundled.came_to)


def test_a_trial_that_is_stopped_before_its_turn_never_begins(base: Base, tmp_path: Path):
    class Waiting(Talk):
        def should_stop(self, *, in_epoch: bool) -> bool:
            return bool(first.numbers) and not in_epoch

    for size, stopped in ((2, [2, 3]), (1, [1, 2, 3])):
        first = Talk()
        talks = {0: first, **{trial: Waiting() for trial in stopped}}
        ends = together(variety(base()), tmp_path, talks, sized(auto=True, measured={"one": MeasuredSize(size, 4)}))
        assert [trial for trial, end in enumerate(ends) if isinstance(end.came_to, TrialPruned)] == stopped
        assert all((ends[trial].talk.about, ends[trial].talk.epochs) == ({}, []) for trial in stopped)
        assert len(first.epochs) == 5


# Memory.


def test_no_more_lanes_train_at_once_than_fit_into_a_slots_share_of_the_memory(base: Base, tmp_path: Path):
    configs = [changed(base(), model={**base()["model"], "seed": seed}) for seed in range(5)]
    members, data = members_of(configs, tmp_path)
    need = bytes_of(members[0].network, batch=16, train=data.sizes["train"], val=data.sizes["val"])
    for free, slots, size in ((3 * need, 1, 3), (4 * need, 2, 2), (5 * need, 1, 5), (0, 1, 1)):
        told: Told = []
        ends = together(configs, tmp_path, sizing=sized(told, free=lambda device, free=free: free, slots=slots))
        assert max(shared(ends)) == size
        assert told == ([] if size == 5 else [(0, size, 5)])
        for end, config in zip(ends, configs, strict=True):
            assert_same(end, alone(config, tmp_path))


@given(needs=st.lists(st.integers(0, 100), min_size=1, max_size=20), room=st.integers(0, 1000))
def test_whichever_lanes_come_together_they_fit(needs: list[int], room: int):
    count = count_fitting(needs, room)
    hungriest = sorted(needs, reverse=True)
    assert 1 <= count <= len(needs)
    assert count == 1 or sum(hungriest[:count]) <= room
    assert count == len(needs) or sum(hungriest[: count + 1]) > room


@pytest.mark.parametrize("data", ["digits", "breast_cancer", "diabetes"])
@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("SGD", {"depth": 0}),
        ("Adam", {"width": 64, "depth": 2}),
        ("RMSprop", {"width": 128, "activation": "gelu", "batch_norm": True, "dropout": 0.3}),
    ],
)
def test_a_lane_takes_no_more_memory_than_is_kept_for_it(
    base: Base, tmp_path: Path, data: str, kind: str, keys: dict[str, Any]
):
    common = changed(base(data, "trainer.max_epochs=1", "data.limit=null", "data.batch_size=64"))
    common = changed(common, optimizer=optimizer(kind, lr=1e-4), model={**common["model"], **keys})
    configs = [changed(common, model={**common["model"], "seed": seed}) for seed in range(4)]
    members, rows = members_of(configs, tmp_path)
    kept = bytes_of(members[0].network, batch=64, train=rows.sizes["train"], val=rows.sizes["val"])
    taken = (peak(configs, tmp_path) - peak(configs[:2], tmp_path)) / 2
    assert kept / 8 < taken < kept


def peak(configs: Sequence[Config], folder: Path) -> int:
    """The most bytes that torch held at once, beyond those it began with, while it trained a bundle."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as found:
        together(configs, folder)
    held = most = 0
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most
