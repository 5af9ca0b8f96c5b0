"""MNIST and Fashion-MNIST in their published form, four IDX files each, which torchvision can download."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from besom.data.dataset import Source, Task
from besom.errors import DataError, in_one_line
from besom.system.locks import locked

_SIDE = 28  # pixels
_UNSIGNED_BYTES = 8  # the IDX code of this type


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published data set: its name in configs, its folder (and class) in torchvision, and its classes."""

    name: str
    folder: str
    classes: tuple[str, ...]


MNIST = Published(name="mnist", folder="MNIST", classes=tuple("0123456789"))
FASHION_MNIST = Published(
    name="fashion_mnist",
    folder="FashionMNIST",
    classes=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
)  # fmt: skip


@lru_cache
def read_images(published: Published, root: Path, download: bool, mirrors: tuple[str, ...]) -> Source:
    """Return 60,000 images of 28 x 28 bytes, flattened to 784, ten classes, and 10,000 to test; once per process.

    Existing files in `root` are used; missing ones are downloaded first, from `mirrors` or else from torchvision's own.
    Raises DataError if files are missing and cannot be downloaded, or are damaged.
    """
    raw = root / published.folder / "raw"
    elsewhere = f"or point BESOM_DATA_DIR at a folder that holds {published.folder}/raw/train-images-idx3-ubyte"
    missing = [path.name for part in ("train", "t10k") for path in _files(raw, part) if not path.is_file()]
    if missing and not download:
        raise DataError(f"{raw}: {missing[0]} is missing; set data.source.download=true, {elsewhere}")
    if missing:
        _download(published, root, mirrors, f"{raw}: {missing[0]} is missing", elsewhere)
    try:
        (x, y), (test_x, test_y) = (_read_part(raw, part) for part in ("train", "t10k"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{raw}: a file is torn ({in_one_line(error)}); delete the folder and connect to the network once, "
            f"{elsewhere}"
        ) from None
    return Source(
        name=published.name,
        task=Task.MULTICLASS,
        x=x,
        y=y,
        test_x=test_x,
        test_y=test_y,
        feature_names=tuple(f"pixel_{row}_{column}" for row in range(_SIDE) for column in range(_SIDE)),
        class_names=published.classes,
        max_value=255.0,
        picture=(_SIDE, _SIDE),
    )


def _files(raw: Path, part: str) -> tuple[Path, Path]:
    return raw / f"{part}-images-idx3-ubyte", raw / f"{part}-labels-idx1-ubyte"


def _download(published: Published, root: Path, mirrors: Sequence[str], missing: str, elsewhere: str) -> None:
    """Download the missing files with torchvision. Raises DataError."""
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # RuntimeError if it was built for another torch
        raise DataError(
            f"{missing}, and torchvision, which downloads it, cannot be imported ({in_one_line(error)}); "
            f"install torchvision, {elsewhere}"
        ) from None
    dataset = getattr(datasets, published.folder)
    try:
        if mirrors:  # torchvision names the folder after the class
            dataset = type(published.folder, (dataset,), {"mirrors": mirrors})
        # Workers start together, and must not write the same file.
        with locked(root / published.folder / ".download.lock", wait=True):
            dataset(root, download=True)  # no-op if another process was first
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataError(
            f"{missing} and could not be downloaded ({in_one_line(error)}); connect to the network once, {elsewhere}"
        ) from None


def _read_part(raw: Path, part: str) -> tuple[Tensor, Tensor]:
    """Return a part's images [n, 784] of bytes, and its labels [n] as class indices. Raises OSError, ValueError."""
    images, labels = map(read_idx, _files(raw, part))
    if images.shape != (len(labels), _SIDE, _SIDE) or labels.dim() != 1:
        pixels = " x ".join(map(str, images.shape[1:]))
        raise ValueError(f"{len(images)} images, {len(labels)} labels, {pixels} pixels")
    return images.reshape(-1, _SIDE * _SIDE), labels.long()


def read_idx(path: Path) -> Tensor:
    """Return the tensor of an IDX file of unsigned bytes, of any shape.

    The format is that of LeCun's page on MNIST: two zero bytes, the type, the number of dimensions, each dimension as a
    big-endian integer, then the values. Raises OSError if it cannot be read, ValueError if it is damaged or another
    format.
    """
    content = path.read_bytes()
    if len(content) < 4 or content[:3] != bytes([0, 0, _UNSIGNED_BYTES]):
        raise ValueError(f"{path.name}: {len(content)} bytes that are no IDX file of bytes")
    begin = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:begin]) if len(content) >= begin else (0,)
    if not prod(shape) or len(content) != begin + prod(shape):
        raise ValueError(f"{path.name}: {len(content)} bytes do not hold what its head says, {list(shape)}")
    return torch.frombuffer(bytearray(content[begin:]), dtype=torch.uint8).reshape(shape)
