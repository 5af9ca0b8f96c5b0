"""Splits: exact sizes, each row once, each class's share kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from besom.data.splits import allocate, draw, split
from besom.errors import DataError

fractions = st.floats(0, 0.49)
seeds = st.integers(0, 2**63 - 1)
part_sizes = st.tuples(st.integers(1, 60), st.integers(0, 30), st.integers(0, 30))


@st.composite
def classes_and_parts(draw_value):
    """Class counts, and part sizes that add up to as many samples."""
    counts = draw_value(st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(lambda c: sum(c) > 1))
    n = sum(counts)
    first = draw_value(st.integers(1, n))
    second = draw_value(st.integers(0, n - first))
    return counts, (first, second, n - first - second)


@given(st.integers(1, 300), fractions, fractions, seeds)
def test_split_has_rounded_sizes_and_every_row_exactly_once(n, val, test, seed):
    assume(round(val * n) + round(test * n) < n)
    parts = split(n, val_fraction=val, test_fraction=test, seed=seed)
    assert (len(parts.val), len(parts.test)) == (round(val * n), round(test * n))
    assert sorted(torch.cat([parts.train, parts.val, parts.test]).tolist()) == list(range(n))


@given(classes_and_parts(), st.integers(0, 1000))
def test_stratified_draw_has_exact_sizes_every_row_once_and_each_class_in_the_first_part(problem, seed):
    counts, sizes = problem
    assume(sizes[0] >= sum(map(bool, counts)))
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    parts = draw(sizes, seed=seed, labels=labels)
    assert tuple(map(len, parts)) == sizes
    assert sorted(torch.cat(parts).tolist()) == list(range(sum(counts)))
    assert set(labels[parts[0]].tolist()) == {i for i, count in enumerate(counts) if count}


@given(classes_and_parts())
def test_each_class_keeps_its_share_of_each_part_to_within_one_sample(problem):
    counts, sizes = problem
    n = sum(counts)
    assume(all(count * sizes[0] >= n for count in counts if count))  # none so rare that it needs a place kept
    for count, row in zip(counts, allocate(counts, sizes), strict=True):
        assert sum(row) == count
        for cell, size in zip(row, sizes, strict=True):
            assert abs(cell - count * size / n) < 1


@given(seeds)
def test_same_seed_gives_the_same_split_whatever_the_global_generator_does(seed):
    labels = torch.arange(100) % 7
    torch.manual_seed(1)
    first = split(100, val_fraction=0.2, test_fraction=0.1, seed=seed, labels=labels)
    torch.manual_seed(2)
    second = split(100, val_fraction=0.2, test_fraction=0.1, seed=seed, labels=labels)
    assert torch.equal(first.train, second.train)
    assert torch.equal(first.val, second.val)


def test_splitting_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    split(50, val_fraction=0.2, seed=3, labels=torch.arange(50) % 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_different_seeds_give_different_splits():
    a, b = (split(100, val_fraction=0.5, seed=seed).val for seed in (0, 1))
    assert not torch.equal(a, b)


def test_a_class_of_one_sample_goes_to_train():
    labels = torch.tensor([0] * 95 + [1, 2, 3, 4, 5])
    parts = split(100, val_fraction=0.2, test_fraction=0.2, seed=0, labels=labels)
    assert {1, 2, 3, 4, 5} <= set(labels[parts.train].tolist())
    assert (len(parts.train), len(parts.val), len(parts.test)) == (60, 20, 20)


def test_more_classes_than_training_rows_are_refused():
    with pytest.raises(DataError, match="3 rows cannot hold a sample of each of 5 classes; hold out fewer"):
        split(5, val_fraction=0.4, seed=0, labels=torch.arange(5))


def test_a_split_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(DataError, match="1 rows to validate and 2 to test leave none of 3"):
        split(3, val_fraction=0.4, test_fraction=0.5, seed=0)
