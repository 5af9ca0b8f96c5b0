"""A source prepared for training: split, scaled, and moved to a device once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from besom.data.dataset import Source, Task
from besom.data.scaling import Scaling, fit_scaler, lost_in_float32
from besom.data.splits import deal, draw, split
from besom.errors import DataError


@dataclass(frozen=True, eq=False)
class Part:
    """Features float32 [n, features] and targets [n], ready to train on."""

    x: Tensor
    y: Tensor
    _moved: dict[torch.device, Part] = field(default_factory=dict, repr=False)

    def on(self, device: torch.device) -> Part:
        """Return the part on `device`: moved there at the first call only, and itself if it is already there."""
        if device == self.x.device:
            return self
        if device not in self._moved:
            self._moved[device] = Part(self.x.to(device), self.y.to(device))
        return self._moved[device]


@dataclass(frozen=True, kw_only=True)
class Folds:
    """`count` folds of the rows outside the test part: `held_out`, from 0, validates and the others train.

    Without `held_out`, all of them train.
    """

    count: int
    held_out: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan to split and scale a source. `limit` first keeps that many rows, each class by its share.

    With `folds` the test part stays the same, and all other rows are divided anew, whatever `val_fraction` is.
    """

    scaling: Scaling
    val_fraction: float
    test_fraction: float
    split_seed: int
    limit: int | None = None
    folds: Folds | None = None


class Prepared:
    """The parts of a source under a plan. The test part is scaled and moved only on request.

    An official test part is used as a whole: neither `test_fraction` nor `limit` applies to it. Raises DataError,
    naming the source, if there are too few rows for the plan, and ConfigError if the scaling does not suit the source.
    """

    def __init__(self, source: Source, plan: Plan) -> None:
        self._source = source
        train_rows, self.val_rows, self._test_rows = _split_rows(source, plan)
        train_x = source.x[train_rows]
        self.scaler = fit_scaler(train_x, plan.scaling, numeric=source.numeric, max_value=source.max_value)
        if train_x.dtype == torch.float64:
            _refuse_lost(source, train_x, self.scaler.exact(train_x))
        self.train = Part(self.scaler.apply(train_x), source.y[train_rows])
        self.val = self._part(self.val_rows)

    @cached_property
    def test(self) -> Part | None:
        """The test part, scaled like the training part; None where there is none."""
        source = self._source
        if source.test_x is not None and source.test_y is not None:
            return Part(self.scaler.apply(source.test_x), source.test_y)
        return self._part(self._test_rows)

    def _part(self, rows: Tensor) -> Part | None:
        return Part(self.scaler.apply(self._source.x[rows]), self._source.y[rows]) if len(rows) else None

    @property
    def sizes(self) -> dict[str, int]:
        """The number of rows in train, val and test; counting does not prepare the test part."""
        official = self._source.test_y
        return {
            "train": len(self.train.y),
            "val": len(self.val.y) if self.val else 0,
            "test": len(self._test_rows) if official is None else len(official),
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the training and validation tensors as they are trained on."""
        digest = hashlib.sha256()
        for part in (self.train, self.val):
            for tensor in (part.x, part.y) if part else ():
                digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


def _refuse_lost(source: Source, raw: Tensor, scaled: Tensor) -> None:
    lost = lost_in_float32(scaled)
    if lost.any():
        index = int(lost.int().argmax())
        distinct, kept = (len(torch.unique(x[:, index])) for x in (raw, scaled.to(torch.float32)))
        raise DataError(
            f"{source.name}: column {source.feature_names[index]!r} holds {distinct} different values, of which "
            f"data.scaling leaves {kept} in 32-bit floats, in which models compute; use standard or minmax, or "
            "subtract a constant from it"
        )


@lru_cache(maxsize=2)
def prepare(source: Source, plan: Plan) -> Prepared:
    """Return the parts of `source` under `plan`; the last two results are cached for the next trials."""
    return Prepared(source, plan)


def _split_rows(source: Source, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    rows = torch.arange(len(source.y))
    labels = None if source.task is Task.REGRESSION else source.y
    try:
        if plan.limit is not None and plan.limit < len(rows):
            sizes = (plan.limit, len(rows) - plan.limit)
            rows, _ = draw(sizes, seed=plan.split_seed, labels=labels)
        parts = split(
            len(rows),
            val_fraction=plan.val_fraction,
            test_fraction=plan.test_fraction if source.test_x is None else 0.0,
            seed=plan.split_seed,
            labels=None if labels is None else labels[rows],
        )
        train, val, test = rows[parts.train], rows[parts.val], rows[parts.test]
        if plan.folds is not None:
            rest = torch.cat([train, val]).sort().values
            train, val = _turn(rest, plan.folds, plan.split_seed, None if labels is None else labels[rest])
            return train, val, test
    except DataError as error:
        raise DataError(f"{source.name}: {error}") from None
    if plan.val_fraction and not len(val):
        raise DataError(
            f"{source.name}: data.val_fraction {plan.val_fraction:g} of {len(rows)} rows is not one row; "
            "raise it, or set it to 0 to go without validation"
        )
    return train, val, test


def _turn(rows: Tensor, folds: Folds, seed: int, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the rows that train and those that validate; `labels` are those of `rows`."""
    fold_rows = deal(len(rows), folds.count, seed=seed, labels=labels)
    if folds.held_out is None:
        return rows, rows[:0]
    others = [fold for number, fold in enumerate(fold_rows) if number != folds.held_out]
    return rows[torch.cat(others).sort().values], rows[fold_rows[folds.held_out]]
