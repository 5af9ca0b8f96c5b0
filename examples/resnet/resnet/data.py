"""Fashion-MNIST, by torchvision: 60,000 pictures of ten kinds of clothes, and 10,000 to test on."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchvision.datasets import FashionMNIST


class Clothes(pl.LightningDataModule):
    """Pictures [1, 28, 28] with mean 0 and deviation 1; `val_fraction` of the training part validates.

    `root` is the folder of the data set, which is downloaded if it is not there. With `limit`, only so many pictures
    are used, for a quick try.
    """

    def __init__(
        self, *, root: str, batch_size: int = 128, val_fraction: float = 0.1, limit: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.root, self.batch_size, self.val_fraction, self.limit = root, batch_size, val_fraction, limit
        self.order = torch.Generator().manual_seed(seed)

    def prepare_data(self) -> None:
        FashionMNIST(self.root, download=True)

    def setup(self, stage: str) -> None:
        if stage == "test":
            self.test = self.read(train=False)
        else:
            parts = [1 - self.val_fraction, self.val_fraction]
            self.train, self.val = random_split(self.read(train=True), parts, torch.Generator().manual_seed(0))

    def read(self, *, train: bool) -> TensorDataset:
        clothes = FashionMNIST(self.root, train=train)
        pictures: Tensor = clothes.data[: self.limit, None] / 255
        return TensorDataset((pictures - 0.286) / 0.353, clothes.targets[: self.limit])

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, self.batch_size, shuffle=True, drop_last=True, generator=self.order)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, 1000)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.test, 1000)
