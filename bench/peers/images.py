"""The data: scikit-learn's digits, or MNIST and Fashion-MNIST as torchvision keeps them under BESOM_DATA_DIR.

The parts have the same sizes as Besom's: a fifth of the digits for validation and a fifth held out, and a tenth of the
60,000 training images for validation.
"""

from __future__ import annotations

import os

import torch
from torch.utils.data import Dataset, Subset, TensorDataset, random_split
from torchvision import datasets, transforms

MEAN, STD = 0.5, 0.5
SPLIT_SEED = 0
TORCHVISION = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}


def batch_size(data: str) -> int:
    """Return the size of a training batch."""
    return 64 if data == "digits" else 128


def features(data: str) -> int:
    """Return the number of pixels of an image."""
    return 64 if data == "digits" else 784


def transformed(data: str) -> tuple[Subset, Subset]:
    """Return the parts to train on and to validate on as tutorials have them: images are transformed one by one."""
    if data == "digits":
        return in_memory(data)
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    return _split(TORCHVISION[data](_root(), train=True, transform=steps), data)


def in_memory(data: str) -> tuple[Subset, Subset]:
    """Return the same parts with the same values, as rows of tensors."""
    if data == "digits":
        from sklearn.datasets import load_digits

        bunch = load_digits()
        x, y = torch.tensor(bunch.data, dtype=torch.float32) / 16, torch.tensor(bunch.target)
    else:
        images = TORCHVISION[data](_root(), train=True)
        x, y = (images.data.flatten(1) / 255 - MEAN) / STD, images.targets
    return _split(TensorDataset(x, y), data)


def _split(dataset: Dataset, data: str) -> tuple[Subset, Subset]:
    rows = len(dataset)
    val, test = (round(0.2 * rows), round(0.2 * rows)) if data == "digits" else (round(0.1 * rows), 0)
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    train_part, val_part, _ = random_split(dataset, [rows - val - test, val, test], generator)
    return train_part, val_part


def _root() -> str:
    return os.environ.get("BESOM_DATA_DIR", "data")
