"""Batches: every sample once an epoch, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from itertools import chain

import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning.utilities import move_data_to_device

from besom.data.loader import Batches, InMemoryLoader

shapes = {
    "n": st.integers(1, 300),
    "batch_size": st.none() | st.integers(1, 70),
    "steps": st.integers(1, 9),
    "shuffle": st.booleans(),
}


def loader_of(n, *, batch_size, shuffle=True, seed=0, steps=128, **ranks):
    x = torch.arange(n, dtype=torch.float32)[:, None]
    return InMemoryLoader(
        x, torch.arange(n), batch_size=batch_size, shuffle=shuffle, shuffle_seed=seed, steps_per_chunk=steps, **ranks
    )


def epoch_of(loader):
    return [y.tolist() for batches in loader for _, y in batches]


@given(**shapes)
def test_every_sample_comes_exactly_once_an_epoch_with_its_own_target(n, batch_size, steps, shuffle):
    loader = loader_of(n, batch_size=batch_size, steps=steps, shuffle=shuffle)
    for _ in range(2):
        pairs = [pair for batches in loader for pair in batches]
        assert sorted(torch.cat([y for _, y in pairs]).tolist()) == list(range(n))
        assert all(torch.equal(x[:, 0].long(), y) for x, y in pairs)


@given(**shapes)
def test_lengths_are_those_of_what_is_yielded_and_only_the_last_batch_is_short(n, batch_size, steps, shuffle):
    loader = loader_of(n, batch_size=batch_size, steps=steps, shuffle=shuffle)
    chunks = list(loader)
    assert len(loader) == len(chunks)
    assert all(len(batches) == len(list(batches)) <= steps for batches in chunks)
    assert sum(batches.rows for batches in chunks) == n
    sizes = [len(y) for batches in chunks for _, y in batches]
    assert all(size == (batch_size or n) for size in sizes[:-1])


@given(st.integers(1, 300), st.none() | st.integers(1, 70), st.booleans())
def test_without_stretches_the_same_batches_come_one_by_one(n, batch_size, shuffle):
    stretched = loader_of(n, batch_size=batch_size, shuffle=shuffle)
    plain = loader_of(n, batch_size=batch_size, shuffle=shuffle, steps=None)
    batches = list(plain)
    assert [y.tolist() for _, y in batches] == epoch_of(stretched)
    assert len(plain) == len(batches)


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_same_seed_gives_the_same_epochs_whatever_the_global_generator_does(seed, other):
    a, b = loader_of(50, batch_size=7, seed=seed), loader_of(50, batch_size=7, seed=seed)
    torch.manual_seed(other)
    first = [epoch_of(a), epoch_of(a)]
    assert [epoch_of(b), epoch_of(b)] == first


def test_iterating_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    epoch_of(loader_of(50, batch_size=7))
    assert torch.equal(torch.get_rng_state(), before)


def test_epochs_and_seeds_shuffle_differently():
    loader = loader_of(50, batch_size=7)
    orders = [epoch_of(loader), epoch_of(loader), epoch_of(loader_of(50, batch_size=7, seed=1))]
    orders.append(epoch_of(loader_of(50, batch_size=7, seed=2**32)))
    assert len({str(order) for order in orders}) == 4


def test_an_iterator_that_is_never_used_skips_no_epoch():
    used, plain = loader_of(50, batch_size=7), loader_of(50, batch_size=7)
    iter(used)
    assert epoch_of(used) == epoch_of(plain)


def test_unshuffled_batches_are_views_that_copy_nothing():
    loader = loader_of(10, batch_size=4, shuffle=False)
    ((first, _), *_rest) = next(iter(loader))
    assert first.data_ptr() == loader.x.data_ptr()


def test_a_full_batch_is_the_data_itself():
    loader = loader_of(10, batch_size=None)
    (((x, _),),) = [list(batches) for batches in loader]
    assert x.data_ptr() == loader.x.data_ptr()


def test_lightnings_transfer_leaves_batches_that_are_there_as_they_are():
    batches = next(iter(loader_of(10, batch_size=4)))
    assert move_data_to_device(batches, torch.device("cpu")) is batches


def test_a_transfer_takes_along_the_rows_of_the_stretch_alone():
    x, y = torch.zeros(1000, 3), torch.zeros(1000)
    for index in (torch.tensor([5, 7, 9]), range(20, 23)):
        moved = Batches(x, y, index, 2).to("meta")
        assert (moved.x.device.type, moved.x.shape, len(moved)) == ("meta", (3, 3), 2)
        assert [len(batch) for batch, _ in moved] == [2, 1]


@given(**shapes, ranks=st.integers(2, 5))
def test_the_pieces_of_all_ranks_make_up_each_batch_and_are_as_long_as_each_other(n, batch_size, steps, shuffle, ranks):
    whole = loader_of(n, batch_size=batch_size, steps=steps, shuffle=shuffle)
    pieces = [
        loader_of(n, batch_size=batch_size, steps=steps, shuffle=shuffle, rank=rank, ranks=ranks)
        for rank in range(ranks)
    ]
    for _ in range(2):
        epochs = [epoch_of(piece) for piece in pieces]
        assert [list(chain(*batch)) for batch in zip(*epochs, strict=True)] == epoch_of(whole)
        for batch in zip(*epochs, strict=True):
            lengths = [len(piece) for piece in batch]
            assert max(lengths) - min(lengths) <= 1
    sizes = [size for chunk in whole for size in chunk.sizes()]
    assert sizes == [len(batch) for batch in epoch_of(whole)]
    assert sizes == [size for chunk in pieces[-1] for size in chunk.sizes()]


@given(st.integers(1, 300), st.none() | st.integers(1, 70), st.booleans(), st.integers(2, 5))
def test_pieces_of_plain_batches_are_of_one_size_and_leave_no_row_out(n, batch_size, shuffle, ranks):
    whole = list(loader_of(n, batch_size=batch_size, steps=None, shuffle=shuffle))
    pieces = [
        list(loader_of(n, batch_size=batch_size, steps=None, shuffle=shuffle, rank=rank, ranks=ranks))
        for rank in range(ranks)
    ]
    for (_, batch), *parts in zip(whole, *pieces, strict=True):
        assert {len(y) for _, y in parts} == {-(-len(batch) // ranks)}
        assert {*torch.cat([y for _, y in parts]).tolist()} == {*batch.tolist()}
        assert all(torch.equal(x[:, 0].long(), y) for x, y in parts)


def test_a_transfer_keeps_each_rank_to_its_piece():
    x, y = torch.zeros(1000, 3), torch.zeros(1000)
    moved = Batches(x, y, torch.arange(10), 4, rank=1, ranks=3).to("meta")
    assert [len(batch) for batch, _ in moved] == [1, 1, 1]
    assert (moved.rank, moved.ranks, moved.rows) == (1, 3, 10)
