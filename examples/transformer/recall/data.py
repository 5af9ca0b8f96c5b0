"""Sequences of random symbols, drawn as long as the training asks for more."""

from __future__ import annotations

from collections.abc import Iterator

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset


def draw(count: int, length: int, symbols: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return sequences [count, length] of symbols, and for each whether its first symbol occurs again."""
    sequences = torch.randint(symbols, (count, length), generator=generator)
    return sequences, (sequences[:, 1:] == sequences[:, :1]).any(dim=1).float()


class Endless(IterableDataset):
    """Batches of sequences without an end, each drawn once."""

    def __init__(self, batch_size: int, length: int, symbols: int, seed: int) -> None:
        self.shape = batch_size, length, symbols
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield draw(*self.shape, self.generator)


class Recall(pl.LightningDataModule):
    """An endless training part, and 1,000 sequences that validate."""

    def __init__(self, *, symbols: int = 12, length: int = 9, batch_size: int = 128, seed: int = 0) -> None:
        super().__init__()
        self.symbols, self.length, self.batch_size, self.seed = symbols, length, batch_size, seed

    def setup(self, stage: str) -> None:
        self.train = Endless(self.batch_size, self.length, self.symbols, self.seed)
        self.val = TensorDataset(*draw(1000, self.length, self.symbols, torch.Generator().manual_seed(1)))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, batch_size=None)  # the data set draws whole batches

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, 1000)
