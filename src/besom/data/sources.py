"""The data sets by name. Each is read once per process: equal arguments return the same tensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from besom.data.dataset import Source, Task
from besom.data.images import FASHION_MNIST, MNIST, read_images
from besom.errors import ConfigError

# scikit-learn takes seconds to import: each function imports what it needs.


@lru_cache
def digits() -> Source:
    """Return scikit-learn's digits: 1797 images of 8 x 8 pixels in 0..16, flattened to 64, ten classes."""
    from sklearn.datasets import load_digits

    return _embedded("digits", Task.MULTICLASS, load_digits(), max_value=16.0, picture=(8, 8))


@lru_cache
def diabetes() -> Source:
    """Return scikit-learn's diabetes: 442 patients, 10 features in their own units, progression after a year.

    Unscaled, unlike scikit-learn's default, which scales by all rows, including those held out.
    """
    from sklearn.datasets import load_diabetes

    return _embedded("diabetes", Task.REGRESSION, load_diabetes(scaled=False))


@lru_cache
def breast_cancer() -> Source:
    """Return scikit-learn's breast cancer: 569 tumours, 30 features, malignant (0) or benign (1)."""
    from sklearn.datasets import load_breast_cancer

    return _embedded("breast_cancer", Task.BINARY, load_breast_cancer())


@lru_cache
def line() -> Source:
    """Return the ten published points of y = x + 1; w = 1 and b = 1 are found with `scaling: none`."""
    x = torch.tensor([-3.0, 31, -11, 4, 0, 22, -2, -5, -25, -14])
    return Source(name="line", task=Task.REGRESSION, x=x[:, None], y=x + 1, feature_names=("x",))


@lru_cache
def random(rows: int = 100, features: int = 2, seed: int = 0) -> Source:
    """Return `rows` rows of features and a target, uniform in 0..1 and unrelated, and as many again for test.

    Raises ConfigError if `rows` or `features` is below 1.
    """
    for key, value in (("rows", rows), ("features", features)):
        if value < 1:
            raise ConfigError(f"data.source.{key}: {value} is below 1; give 1 or more")
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.rand(rows, features + 1, generator=generator) for _ in range(2)]
    (x, y), (test_x, test_y) = ((part[:, :-1].clone(), part[:, -1].clone()) for part in draws)
    names = tuple(f"x{i}" for i in range(features))
    return Source(name="random", task=Task.REGRESSION, x=x, y=y, test_x=test_x, test_y=test_y, feature_names=names)


def mnist(root: str | None = None, download: bool = True, mirrors: Sequence[str] = ()) -> Source:
    """Return MNIST: 60,000 images of 28 x 28 bytes, flattened to 784, ten digits, and 10,000 to test.

    Reads root/MNIST/raw; `root` defaults to the environment variable BESOM_DATA_DIR, else `data`. Existing files are
    read without the network, also from a read-only folder. Missing ones are downloaded by torchvision, by one process
    at a time, from `mirrors` (URLs that end in /) or else its own. Raises DataError if files are missing and cannot be
    downloaded, or are damaged.
    """
    return read_images(MNIST, _root(root), download, tuple(mirrors))


def fashion_mnist(root: str | None = None, download: bool = True, mirrors: Sequence[str] = ()) -> Source:
    """Return Fashion-MNIST from root/FashionMNIST/raw: like `mnist` in shape, look-up and errors."""
    return read_images(FASHION_MNIST, _root(root), download, tuple(mirrors))


def _root(root: str | None) -> Path:
    return Path(root or os.environ.get("BESOM_DATA_DIR") or "data").expanduser().absolute()


def _embedded(name: str, task: Task, bunch: Any, **fields: Any) -> Source:
    regression = task is Task.REGRESSION
    return Source(
        name=name,
        task=task,
        x=torch.tensor(bunch.data, dtype=torch.float32),
        y=torch.tensor(bunch.target, dtype=torch.float32 if regression else torch.int64),
        feature_names=tuple(map(str, bunch.feature_names)),
        class_names=() if regression else tuple(map(str, bunch.target_names)),
        **fields,
    )
