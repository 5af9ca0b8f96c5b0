"""Points of two interleaved spirals, with noise."""

from __future__ import annotations

import math

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset, random_split


class Spirals(pl.LightningDataModule):
    """`points` points of each spiral, which winds `turns` times around the origin; a fifth of them validates."""

    def __init__(self, *, points: int = 1000, turns: float = 1.5, noise: float = 0.05, batch_size: int = 64) -> None:
        super().__init__()
        self.points, self.turns, self.noise, self.batch_size = points, turns, noise, batch_size

    def setup(self, stage: str) -> None:
        generator = torch.Generator().manual_seed(0)
        radius = torch.rand(2 * self.points, generator=generator).sqrt()
        label = torch.arange(2 * self.points) % 2
        angle = 2 * math.pi * self.turns * radius + math.pi * label
        x = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
        x += self.noise * torch.randn(x.shape, generator=generator)
        self.train, self.val = random_split(TensorDataset(x, label.float()), [0.8, 0.2], generator=generator)

    def train_dataloader(self) -> DataLoader:
        # Its own generator, so that the order of the samples does not depend on other random numbers.
        return DataLoader(self.train, self.batch_size, shuffle=True, generator=torch.Generator().manual_seed(0))

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, 1000)
