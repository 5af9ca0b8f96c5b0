"""The LightningDataModule of in-memory data."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Self

import pytorch_lightning as pl
import torch
from torch import Tensor

from besom.data.dataset import DataSpec, Source
from besom.data.loader import STEPS_PER_CHUNK, Batches, InMemoryLoader
from besom.data.prepared import Folds, Part, Plan, Prepared, prepare
from besom.data.scaling import Scaler, parse_scaling
from besom.errors import ConfigError

__all__ = ["Batches", "InMemoryDataModule", "InMemoryLoader"]


class InMemoryDataModule(pl.LightningDataModule):
    """Splits and scales a source, keeps it on the trainer's device, and batches it there.

    Its loaders yield `Batches`; set `steps_per_chunk` to None for a module that takes plain (x, y) batches. A source's
    official test part replaces `test_fraction`; `val_fraction=0` makes no validation part. `batch_size=None` trains on
    full batches. `limit` is the number of rows to split (each class by its share), for a quick try. `split_seed` and
    `shuffle_seed` seed their own generators.

    Raises ConfigError for a value out of range. DataError is raised at the first use of the data.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int | None = 64,
        eval_batch_size: int = 8192,
        scaling: object = "standard",
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        shuffle_seed: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        self.steps_per_chunk: int | None = STEPS_PER_CHUNK
        self.source = source
        self.batch_size = None if batch_size is None else _whole("batch_size", batch_size, at_least=1)
        self.eval_batch_size = _whole("eval_batch_size", eval_batch_size, at_least=1)
        self.shuffle_seed = _whole("shuffle_seed", shuffle_seed, at_least=0)
        self.plan = Plan(
            scaling=parse_scaling(scaling),
            val_fraction=_fraction("val_fraction", val_fraction),
            # 0 in the plan where it is ignored, so that it causes no second copy of the data.
            test_fraction=_fraction("test_fraction", test_fraction) if source.test_x is None else 0.0,
            split_seed=_whole("split_seed", split_seed, at_least=0),
            limit=None if limit is None else _whole("limit", limit, at_least=1),
        )
        held_out = self.plan.val_fraction + self.plan.test_fraction
        if held_out >= 1:
            raise ConfigError(
                f"data.val_fraction: with data.test_fraction it makes {held_out:g}, which leaves nothing to "
                "train on; keep their sum below 1"
            )

    def folded(self, count: int, *, held_out: int | None = None) -> Self:
        """Return the same data for one turn of cross-validation: fold `held_out` of `count`, from 0, validates.

        The other rows outside the test part train; without `held_out`, all of them. The scaler is fitted on the
        training part.
        """
        turn = copy(self)
        turn.plan = replace(self.plan, folds=Folds(count=count, held_out=held_out))
        vars(turn).pop("_prepared", None)
        return turn

    @property
    def spec(self) -> DataSpec:
        """The properties that a model is built from; known without preparing the data."""
        return self.source.spec

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name per column of x."""
        return self.source.feature_names

    @property
    def scaler(self) -> Scaler:
        """The scaler that was fitted on the training part, for new inputs."""
        return self._prepared.scaler

    @property
    def sizes(self) -> dict[str, int]:
        """The number of rows in train, val and test."""
        return self._prepared.sizes

    @property
    def val_rows(self) -> Tensor:
        """The positions of the validation rows in the source (int64), in the order of its loader."""
        return self._prepared.val_rows

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the training and validation tensors as they are trained on."""
        return self._prepared.digest

    @cached_property
    def _prepared(self) -> Prepared:
        return prepare(self.source, self.plan)

    def setup(self, stage: str | None = None) -> None:
        """Prepare the parts that `stage` (fit, validate, test) needs, and move them to the trainer's device, once."""
        match stage:
            case "test":
                self.test_dataloader()
            case "validate":
                self.val_dataloader()
            case "fit":
                self.train_dataloader()
                self.val_dataloader()

    def train_dataloader(self) -> InMemoryLoader:
        """Return a loader whose first epoch is the Trainer's current one, which determines the order of the rows.

        With `trainer.overfit_batches`, the rows keep the order of the source. With several ranks, it yields this rank's
        piece of each batch. Raises ConfigError if a batch has fewer rows than there are ranks.
        """
        part = self._prepared.train.on(self._device)
        ranks = self.trainer.world_size if self.trainer else 1
        if self.batch_size is not None and self.batch_size < ranks:
            raise ConfigError(
                f"data.batch_size: {self.batch_size} cannot be cut over the {ranks} devices of a trial; "
                f"give {ranks} or more, or set trainer.devices=1"
            )
        return InMemoryLoader(
            part.x,
            part.y,
            batch_size=self.batch_size,
            shuffle=not getattr(self.trainer, "overfit_batches", 0),
            shuffle_seed=self.shuffle_seed,
            first_epoch=self.trainer.current_epoch if self.trainer else 0,
            steps_per_chunk=self.steps_per_chunk,
            rank=self.trainer.global_rank if self.trainer else 0,
            ranks=ranks,
        )

    def val_dataloader(self) -> InMemoryLoader | list[InMemoryLoader]:
        """Return a loader of the validation part in row order, or [] where there is none."""
        return self._evaluation_loader(self._prepared.val)

    def test_dataloader(self) -> InMemoryLoader | list[InMemoryLoader]:
        """Return a loader of the test part in row order, or [] where there is none."""
        return self._evaluation_loader(self._prepared.test)

    def _evaluation_loader(self, part: Part | None) -> InMemoryLoader | list[InMemoryLoader]:
        if part is None:
            return []
        part = part.on(self._device)
        return InMemoryLoader(
            part.x,
            part.y,
            batch_size=self.eval_batch_size,
            shuffle=False,
            steps_per_chunk=self.steps_per_chunk,
        )

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")


def _whole(key: str, value: object, *, at_least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"data.{key}: {value!r} is not a whole number; give {at_least} or more")
    if value < at_least:
        remedy = ", or null for full batches" if key == "batch_size" else ""
        raise ConfigError(f"data.{key}: {value} is below {at_least}; give {at_least} or more{remedy}")
    return value


def _fraction(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(f"data.{key}: {value!r} is not a fraction; give 0 or more, and less than 1")
    return float(value)
