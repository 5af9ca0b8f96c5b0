"""The pictures to imitate: 1,797 handwritten digits of 8x8, embedded in scikit-learn."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset, random_split


class Digits(pl.LightningDataModule):
    """Pictures [1, 8, 8] from -1 (white) to 1 (black); a fifth of them validates."""

    def __init__(self, *, batch_size: int = 64) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        pictures = torch.tensor(load_digits().images, dtype=torch.float32) / 8 - 1
        self.generator = torch.Generator().manual_seed(0)
        self.train, self.val = random_split(TensorDataset(pictures[:, None]), [0.8, 0.2], generator=self.generator)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, self.batch_size, shuffle=True, generator=self.generator)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, len(self.val))
