"""Splits by seed: the rows to train, validate and test, or of each fold, stratified by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from besom.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Row numbers (int64, ascending) of the three parts: disjoint, and together all rows."""

    train: Tensor
    val: Tensor
    test: Tensor


def split(
    n: int,
    *,
    val_fraction: float = 0.0,
    test_fraction: float = 0.0,
    seed: int,
    labels: Tensor | None = None,
) -> Split:
    """Split `n` rows: round(fraction * n) for validation and for test, the rest for training.

    With `labels` (int64 [n], from 0) the split is stratified, as `draw` describes.
    Raises DataError if no row is left to train on, or fewer than there are classes.
    """
    val, test = round(val_fraction * n), round(test_fraction * n)
    if val + test >= n:
        raise DataError(f"{val} rows to validate and {test} to test leave none of {n} to train on; hold out less")
    train_rows, val_rows, test_rows = draw((n - val - test, val, test), seed=seed, labels=labels)
    return Split(train=train_rows, val=val_rows, test=test_rows)


def draw(sizes: Sequence[int], *, seed: int, labels: Tensor | None = None) -> tuple[Tensor, ...]:
    """Divide sum(sizes) rows into parts of exactly these sizes; each part's row numbers ascend.

    With `labels`, every class is in the first part, and its count in each part is its proportional share, rounded down
    or up. The only exception are classes so rare that their share of the first part is below one sample: each reserves
    one sample there first, and the rest is divided by share. Raises DataError if the first part is too small for one
    sample of each class.
    """
    order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(seed))
    if labels is None:
        return tuple(part.sort().values for part in torch.split(order, list(sizes)))
    counts = labels.bincount().tolist()
    by_class = torch.split(order[labels[order].argsort(stable=True)], counts)
    table = allocate(counts, sizes)
    cells = [torch.split(members, row) for members, row in zip(by_class, table, strict=True)]
    return tuple(torch.cat(column).sort().values for column in zip(*cells, strict=True))


def deal(n: int, folds: int, *, seed: int, labels: Tensor | None = None) -> tuple[Tensor, ...]:
    """Divide `n` rows into folds, like dealing cards, class by class; each fold's row numbers (int64) ascend.

    The folds' sizes differ by at most one row and, with `labels` (int64 [n], from 0), so do the counts of each class.
    Raises DataError if a fold would have no row, or no row of some class.
    """
    if folds > n:
        raise DataError(f"evaluation.folds {folds} is more than the {n} rows that are no test part; take fewer folds")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    if labels is not None:
        rarest = min(count for count in labels.bincount().tolist() if count)
        if folds > rarest:
            raise DataError(
                f"evaluation.folds {folds} is more than the {rarest} rows of the rarest class; "
                "take fewer folds, or merge rare classes"
            )
        order = order[labels[order].argsort(stable=True)]
    return tuple(order[fold::folds].sort().values for fold in range(folds))


def allocate(counts: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """Return how many samples of each class (row) go to each part (column), by the rules of `draw`.

    Rows add up to `counts`, columns to `sizes`. Raises DataError as `draw` does.
    """
    reserved = _reserve(counts, sizes[0])
    left = [count - taken for count, taken in zip(counts, reserved, strict=True)]
    room = [sizes[0] - sum(reserved), *sizes[1:]]
    table = _round_shares(left, room)
    for row, taken in zip(table, reserved, strict=True):
        row[0] += taken
    return table


def _reserve(counts: Sequence[int], first: int) -> list[int]:
    """Return 1 for each class whose share of the first part would be below one sample, else 0."""
    reserved = [0] * len(counts)
    while True:  # each reservation leaves less room, which can make another class rare
        room, total = first - sum(reserved), sum(counts) - sum(reserved)
        if room < 0:
            raise DataError(
                f"{first} rows cannot hold a sample of each of {sum(map(bool, counts))} classes; "
                "hold out fewer rows, give more, or merge rare classes"
            )
        rare = [i for i, count in enumerate(counts) if count and not reserved[i] and count * room < total]
        if not rare:
            return reserved
        for i in rare:
            reserved[i] = 1


def _round_shares(counts: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """Round the shares counts[i] * sizes[j] / total down or up, so that rows and columns keep their sums.

    Such a rounding always exists, since a flow with whole capacities has a whole solution (Bacharach,
    Management Science 12, 1966). Fractions are placed row by row; when a part is full, an augmenting path
    moves another row's fraction elsewhere.
    """
    total = sum(sizes) or 1
    table = [[count * size // total for size in sizes] for count in counts]
    fractional = [[j for j, size in enumerate(sizes) if count * size % total] for count in counts]
    room = [size - sum(column) for size, column in zip(sizes, zip(*table, strict=True), strict=True)]
    rounded_up: list[set[int]] = [set() for _ in counts]

    def round_up(row: int, tried: set[int]) -> bool:
        for part in fractional[row]:
            if part in tried or part in rounded_up[row]:
                continue
            tried.add(part)
            if room[part]:
                room[part] -= 1
            else:
                holders = (i for i, parts in enumerate(rounded_up) if part in parts)
                giver = next((i for i in holders if round_up(i, tried)), None)
                if giver is None:
                    continue
                rounded_up[giver].remove(part)
            rounded_up[row].add(part)
            return True
        return False

    for row, count in enumerate(counts):
        for _ in range(count - sum(table[row])):
            round_up(row, set())
    for row, parts in enumerate(rounded_up):
        for part in parts:
            table[row][part] += 1
    return table
