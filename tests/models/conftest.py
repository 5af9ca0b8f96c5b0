from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from besom.data import DataSpec, Task
from besom.data.loader import InMemoryLoader


@dataclass(frozen=True)
class Problem:
    """A small data set, and the loaders that a user might hand to Lightning."""

    spec: DataSpec
    x: Tensor
    y: Tensor

    def batches(self, size: int = 16) -> DataLoader[Any]:
        """Ordinary (x, y) batches, in row order."""
        return DataLoader(TensorDataset(self.x, self.y), batch_size=size)

    def chunks(self, size: int = 16, per_chunk: int = 3) -> InMemoryLoader:
        """The same batches, a few per chunk."""
        return InMemoryLoader(self.x, self.y, batch_size=size, shuffle=False, steps_per_chunk=per_chunk)


class Recorder(Checkpoint):
    """Keeps the metrics of each epoch. A Checkpoint, because Lightning calls those last."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs.append({name: value.item() for name, value in trainer.callback_metrics.items()})


@dataclass
class Fit:
    """The files of a training run."""

    trainer: pl.Trainer
    epochs: list[dict[str, float]]

    @property
    def metrics(self) -> dict[str, float]:
        """Those of the last epoch."""
        return self.epochs[-1]

    def series(self, name: str) -> list[float]:
        """One metric over the epochs."""
        return [metrics[name] for metrics in self.epochs]


def _spec(task: Task, features: int, outputs: int, classes: tuple[str, ...]) -> DataSpec:
    return DataSpec(name=task.value, task=task, in_features=features, out_features=outputs, classes=classes)


def _problem(task: Task, rows: int = 150) -> Problem:
    # 150 rows: the last batch of 16 is short, and so is the last chunk of 3 batches.
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, 2, generator=generator)
    if task is Task.REGRESSION:
        return Problem(_spec(task, 2, 1, ()), x, 3 * x[:, 0] - 2 * x[:, 1] + 1)
    if task is Task.BINARY:
        return Problem(_spec(task, 2, 1, ("no", "yes")), x, (x[:, 0] > x[:, 1]).long())
    y = torch.arange(rows) % 3
    centers = torch.tensor([[4.0, 0.0], [-4.0, 2.0], [0.0, -5.0]])
    return Problem(_spec(task, 2, 3, ("a", "b", "c")), x + centers[y], y)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def problem() -> Callable[[Task], Problem]:
    return _problem


@pytest.fixture
def fit() -> Callable[..., Fit]:
    def run(module: pl.LightningModule, train: Any, val: Any = None, **options: Any) -> Fit:
        recorder = Recorder()
        callbacks = [recorder, *options.pop("callbacks", ())]
        quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
        trainer = pl.Trainer(**{"accelerator": "cpu", "max_epochs": 1, **quiet, **options}, callbacks=callbacks)
        trainer.fit(module, train, val)
        return Fit(trainer, recorder.epochs)

    return run
