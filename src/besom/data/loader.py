"""Batches that are gathered on the data's device, and passed to Lightning in chunks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

STEPS_PER_CHUNK = 128


class Batches:
    """One chunk of an epoch: some rows of `x` [n, features] and `y` [n], in batches.

    Iterating yields (x_batch, y_batch), the last perhaps shorter, on the device of `x`. `index` is int64 row numbers on
    that device, or a range, whose batches are slices and thus copy nothing.

    Lightning's loop around a batch costs as much as a small model's step. One `training_step` therefore takes a whole
    chunk. Log with `batch_size=batch.rows`, or Lightning gathers every batch to guess it.

    Where `ranks` processes train together, iterating yields the `rank`-th piece of each batch: all pieces make up the
    batch, and their sizes differ by at most one row; of a batch with too few rows, some are empty.
    """

    __slots__ = ("batch_size", "index", "rank", "ranks", "x", "y")

    def __init__(
        self, x: Tensor, y: Tensor, index: Tensor | range, batch_size: int, *, rank: int = 0, ranks: int = 1
    ) -> None:
        self.x = x
        self.y = y
        self.index = index
        self.batch_size = batch_size
        self.rank = rank
        self.ranks = ranks

    @property
    def rows(self) -> int:
        """The number of samples in this chunk, on all ranks."""
        return len(self.index)

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, self.rows, self.batch_size):
            index = self._piece(self.index[start : start + self.batch_size])
            if isinstance(index, range):
                rows = slice(index.start, index.stop)
                yield self.x[rows], self.y[rows]
            else:
                yield self.x.index_select(0, index), self.y.index_select(0, index)

    def sizes(self) -> Iterator[int]:
        """Yield the number of rows of each batch, on all ranks."""
        for start in range(0, self.rows, self.batch_size):
            yield min(self.batch_size, self.rows - start)

    def _piece(self, batch: Tensor | range) -> Tensor | range:
        if self.ranks == 1:
            return batch
        count = len(batch)
        return batch[count * self.rank // self.ranks : count * (self.rank + 1) // self.ranks]

    def to(self, device: torch.device | str) -> Batches:
        """Return these batches on `device`: self if they are there, else a copy of the chunk's own rows."""
        device = torch.device(device)
        if device.type == self.x.device.type and device.index in (None, self.x.device.index):
            return self
        rows = slice(self.index.start, self.index.stop) if isinstance(self.index, range) else self.index
        x, y = self.x[rows].to(device), self.y[rows].to(device)
        return Batches(x, y, range(self.rows), self.batch_size, rank=self.rank, ranks=self.ranks)


class InMemoryLoader:
    """A loader that yields an epoch as `Batches`, each of at most `steps_per_chunk` batches; `len` counts these chunks.

    `steps_per_chunk=None` yields plain (x, y) batches, for modules that do not support chunks.

    The first epoch of a loader is `first_epoch`. With `shuffle`, epoch e follows a permutation drawn from
    (`shuffle_seed`, e) alone: the same on every device, whatever else draws random numbers. `batch_size=None` makes the
    whole part one batch; a single batch is never shuffled, since a sum does not depend on the order and a slice needs
    no copy.

    Where `ranks` processes train together, each batch is divided into as many pieces, and this loader yields the
    `rank`-th of each. Pieces of plain batches have equal sizes, as a user's own module needs them: where the division
    has a remainder, some rows are in two pieces, as with torch's DistributedSampler.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        *,
        batch_size: int | None,
        shuffle: bool,
        shuffle_seed: int = 0,
        first_epoch: int = 0,
        steps_per_chunk: int | None = STEPS_PER_CHUNK,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.x = x
        self.y = y
        self.batch_size = min(batch_size or len(y), len(y))
        self.shuffle = shuffle and self.batch_size < len(y)
        self.shuffle_seed = shuffle_seed
        self.steps_per_chunk = steps_per_chunk
        self.rank = rank
        self.ranks = ranks
        self.dataset = range(len(y))  # Lightning's Tuner tries no batch beyond its length
        self.epoch = first_epoch

    def __len__(self) -> int:
        return -(-len(self.y) // (self.batch_size * (self.steps_per_chunk or 1)))

    def __iter__(self) -> Iterator[Batches | tuple[Tensor, Tensor]]:
        # A generator: the epoch is counted when its first chunk is requested, so an iterator that is never used skips
        # no epoch.
        order = self._order(self.epoch)
        self.epoch += 1
        if self.steps_per_chunk is None:
            yield from self._plain(order)
            return
        step = self.batch_size * self.steps_per_chunk
        for start in range(0, len(self.y), step):
            rows = order[start : start + step]
            yield Batches(self.x, self.y, rows, self.batch_size, rank=self.rank, ranks=self.ranks)

    def _plain(self, order: Tensor | range) -> Iterator[tuple[Tensor, Tensor]]:
        if self.ranks == 1:
            yield from Batches(self.x, self.y, order, self.batch_size)
            return
        order = torch.as_tensor(order, device=self.x.device)
        for batch in torch.split(order, self.batch_size):
            size = -(-len(batch) // self.ranks)
            places = torch.arange(self.rank * size, (self.rank + 1) * size, device=batch.device) % len(batch)
            rows = batch[places]
            yield self.x.index_select(0, rows), self.y.index_select(0, rows)

    def _order(self, epoch: int) -> Tensor | range:
        if not self.shuffle:
            return range(len(self.y))
        # torch's CPU generator keeps 32 bits of its seed: mix the two numbers into 32 good bits.
        mix = np.random.SeedSequence(self.shuffle_seed, spawn_key=(epoch,))
        seed = int(mix.generate_state(1)[0])
        order = torch.randperm(len(self.y), generator=torch.Generator().manual_seed(seed))
        return order.to(self.x.device)
