"""Folds: each row validates once, each class keeps its share, and no scaler has seen what its fold holds out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from besom.data import InMemoryDataModule, Source, Task
from besom.data.splits import deal
from besom.errors import DataError

seeds = st.integers(0, 1000)


def rows_of(loader):
    return torch.cat([y for batches in loader for _, y in batches]).tolist() if loader else []


def numbers(n=60, **changes):
    """A source whose target is the row's number, and whose two features are drawn."""
    x = torch.rand(n, 2, generator=torch.Generator().manual_seed(7)) * 100
    fields = {"name": "numbers", "task": Task.REGRESSION, "x": x, "y": torch.arange(n, dtype=torch.float32)}
    return Source(**{**fields, "feature_names": ("a", "b"), **changes})


@given(st.integers(2, 200), st.integers(2, 20), seeds)
def test_every_row_is_dealt_once_into_folds_of_one_size_but_for_a_row(n, folds, seed):
    folds = min(n, folds)
    dealt = deal(n, folds, seed=seed)
    assert sorted(torch.cat(dealt).tolist()) == list(range(n))
    assert {len(fold) for fold in dealt} <= {n // folds, -(-n // folds)}
    assert all(fold.tolist() == sorted(fold.tolist()) for fold in dealt)


@given(st.lists(st.integers(2, 40), min_size=2, max_size=6), st.integers(2, 9), seeds)
def test_each_class_is_in_each_fold_as_often_as_in_any_other_but_for_a_row(counts, folds, seed):
    folds = min(folds, *counts)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    for fold in deal(len(labels), folds, seed=seed, labels=labels):
        for count, here in zip(counts, labels[fold].bincount(minlength=len(counts)).tolist(), strict=True):
            assert here in (count // folds, -(-count // folds))


def test_another_seed_deals_otherwise_and_the_same_one_alike():
    one, same, other = (deal(50, 5, seed=seed)[0].tolist() for seed in (0, 0, 1))
    assert one == same != other


@given(st.integers(2, 8), st.floats(0, 0.5), st.floats(0.02, 0.4))
def test_each_row_that_is_no_test_part_validates_in_one_fold_and_trains_in_all_others(folds, test, val):
    source = numbers()
    usual = InMemoryDataModule(source, test_fraction=test, val_fraction=val)
    held_out = []
    for number in range(folds):
        turn = usual.folded(folds, held_out=number)
        parts = [rows_of(part()) for part in (turn.train_dataloader, turn.val_dataloader, turn.test_dataloader)]
        assert sorted(row for part in parts for row in part) == list(range(60))
        assert parts[2] == rows_of(usual.test_dataloader()), "the test part is what it is without folds"
        held_out += parts[1]
    whole = usual.folded(folds)
    assert whole.val_dataloader() == []
    assert sorted(held_out) == sorted(rows_of(whole.train_dataloader()))


@given(st.sampled_from(["standard", "minmax"]), st.integers(0, 4), st.floats(-1e6, 1e6, width=32))
def test_what_a_fold_holds_changes_the_scaler_of_all_others_and_not_its_own(scaling, number, spoilt):
    source = numbers()
    held_out = [int(row) for row in rows_of(InMemoryDataModule(source).folded(5, held_out=number).val_dataloader())]
    x = source.x.clone()
    x[held_out] += 1000 + abs(spoilt)
    changed = numbers(x=x)
    for turn in (*range(5), None):
        before, after = (
            InMemoryDataModule(data, scaling=scaling).folded(5, held_out=turn).scaler for data in (source, changed)
        )
        assert torch.equal(before.scale, after.scale) == (turn == number)
        assert torch.equal(before.shift, after.shift) or turn != number


def test_no_scaler_has_seen_the_test_part():
    source = numbers()
    test = [int(row) for row in rows_of(InMemoryDataModule(source).test_dataloader())]
    x = source.x.clone()
    x[test] += 1000
    for turn in (0, 1, None):
        before, after = (InMemoryDataModule(data).folded(2, held_out=turn).scaler for data in (source, numbers(x=x)))
        assert torch.equal(before.scale, after.scale)


def test_a_limit_is_kept_and_dealt():
    data = InMemoryDataModule(numbers(), limit=20, test_fraction=0.25).folded(3, held_out=0)
    assert data.sizes == {"train": 10, "val": 5, "test": 5}


def test_folds_leave_the_data_that_they_are_of_as_they_were():
    data = InMemoryDataModule(numbers())
    sizes = data.sizes
    assert data.folded(5, held_out=0).sizes == {"train": 38, "val": 10, "test": 12}
    assert data.sizes == sizes == {"train": 36, "val": 12, "test": 12}


def test_more_folds_than_rows_are_refused():
    with pytest.raises(DataError, match=r"^numbers: evaluation.folds 49 is more than the 48 rows .*; take fewer folds"):
        InMemoryDataModule(numbers()).folded(49).sizes  # noqa: B018


def test_more_folds_than_rows_of_a_class_are_refused():
    y = torch.tensor([0] * 57 + [1] * 3)
    source = numbers(task=Task.BINARY, y=y, class_names=("often", "rare"))
    with pytest.raises(DataError, match=r"^numbers: evaluation.folds 4 is more than the 3 rows of the rarest class; "):
        InMemoryDataModule(source, test_fraction=0).folded(4).sizes  # noqa: B018
