"""The inputs of a prediction: a table, an array or images, read as raw inputs in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from besom.config.model_inputs import Inputs, Reading
from besom.data.dataset import DataSpec, Task
from besom.data.tables.columns import encode_features, labels, numbers
from besom.data.tables.files import header_cells, read_pieces
from besom.data.tables.inspection import text_columns
from besom.data.tables.table import Table
from besom.errors import DataError, first_few, in_one_line
from besom.predict.pictures import SUFFIXES, read_picture

Warn = Callable[[str], None]

UNKNOWN = -1
"""The class of a row whose target is none of the model's classes."""

_NAMED = 5  # the maximum number of columns that a warning names


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """A batch of inputs: their `names` [n], raw x [n, features], and their targets, if known.

    x is float64, for images float32. `truth` [n] is float64 for a regression, else int64 class indices, or UNKNOWN.
    """

    names: Sequence[int | str]
    x: Tensor
    truth: Tensor | None = None


def table_pieces(
    path: Path, inputs: Inputs, spec: DataSpec, *, rows: int, separator: str | None, shown: Path, warn: Warn
) -> Iterator[Piece]:
    """Yield the rows of a CSV, TSV or Parquet file in batches of `rows`, with the model's columns.

    `shown` is the file's name in error messages. Raises DataError, with row and column, for unreadable values.
    """
    target = inputs.target
    text = text_columns([*inputs.columns, *([target] if target else [])])
    known = {column.name for column in inputs.columns} | ({target.name} if target else set())
    first = 0
    reading = _as_trained(path, inputs, separator)
    for table in read_pieces(path, reading, rows=rows, text=text, shown=shown):
        x = encode_new(table, inputs)
        if not first:
            _warn_of_others([name for name in table.frame.columns if name not in known], warn)
        yield Piece(names=range(first, first + len(x)), x=x, truth=_truth(table, inputs, spec))
        first += len(x)


def _as_trained(path: Path, inputs: Inputs, separator: str | None) -> Reading:
    """Return how to read the text of a new file: as the training file was read.

    Except for the compression, which depends on its suffix, and the skipped lines, if it starts with its header.
    """
    trained = inputs.reading
    plain = replace(trained, separator=separator or trained.separator, compression=None)
    names = {column.name for column in inputs.columns}
    if trained.skip_rows and header_cells(path, bare := replace(plain, skip_rows=0)) >= names:
        return bare
    return plain


def encode_new(table: Table, inputs: Inputs) -> Tensor:
    """Return a table's rows as a model was trained on them, float64 [rows, features], unscaled.

    Raises DataError, naming row and column, for what the model cannot read.
    """
    x = torch.from_numpy(encode_features(table, inputs.columns))
    if inputs.max_value is not None:
        outside = ((x < 0) | (x > inputs.max_value)).any(dim=1)
        if outside.any():
            index = int(outside.int().argmax())
            raise table.refusal(index, f"a feature is out of range: {_range_of(inputs)}; correct it")
    return x


def _range_of(inputs: Inputs) -> str:
    return f"the model reads 0 to {inputs.max_value:g}"


def _warn_of_others(names: Sequence[str], warn: Warn) -> None:
    if names:
        warn(f"the model does not read the column(s) {first_few([*map(repr, names)], _NAMED)}")


def _truth(table: Table, inputs: Inputs, spec: DataSpec) -> Tensor | None:
    target = inputs.target
    if target is None or target.name not in table.frame or table.frame[target.name].isna().any():
        return None
    if spec.task is Task.REGRESSION:
        return torch.from_numpy(numbers(table, target.name))
    found = pd.Index(spec.classes).get_indexer(pd.Index(labels(table, target.name)))
    return torch.from_numpy(found.astype(np.int64))


def array_pieces(path: Path, inputs: Inputs, *, rows: int, warn: Warn) -> Iterator[Piece]:
    """Yield the rows of a .npy file [n, features], or of images [n, height, width] or one [height, width].

    Nothing is unpickled. Raises DataError for a file or values that cannot be read.
    """
    array = inputs.as_rows(_load(path), path)
    if not len(array):
        raise DataError(f"{path}: it holds no rows; give one with rows")
    highest = 0.0
    for first in range(0, len(array), rows):
        x = raw_rows(array[first : first + rows], inputs, path, first=first)
        highest = max(highest, float(x.max()))
        yield Piece(names=range(first, first + len(x)), x=x)
    if inputs.max_value is not None and highest <= 1 < inputs.max_value:
        warn(f"{path}: no value is above 1, and {_range_of(inputs)}: give them as they were before any scaling")


def _load(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as an array ({in_one_line(error)}); give one of numbers") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise DataError(f"{path}: it is no array of numbers; give one [n, features]")
    return array


def raw_rows(array: np.ndarray, inputs: Inputs, path: Path, *, first: int = 0) -> Tensor:
    """Return rows or images as float64 [n, features]; `first` is the index of the first one.

    Raises DataError, with row and feature, for a value that is not finite, or out of the model's range.
    """
    x = np.array(array, dtype=np.float64).reshape(len(array), -1)
    with np.errstate(over="ignore"):
        bad, why = ~np.isfinite(x.astype(np.float32)), "it takes finite 32-bit numbers"
    if inputs.max_value is not None:
        bad, why = bad | (x < 0) | (x > inputs.max_value), _range_of(inputs)
    if bad.any():
        row, feature = divmod(int(bad.argmax()), x.shape[1])
        raise DataError(f"{path}: row {first + row}, feature {feature} is {x[row, feature]:g}, and {why}; correct it")
    return torch.from_numpy(x)


def picture_pieces(path: Path, inputs: Inputs, *, rows: int, invert: bool) -> Iterator[Piece]:
    """Yield an image, or the PNG and JPEG files in a folder and its subfolders by path, in batches of `rows`.

    `invert` is for dark-on-white images. Raises DataError for a model without image inputs, and an unreadable file.
    """
    size = inputs.picture
    if size is None:
        raise DataError(
            f"{path}: no picture size is recorded with this model; give a table or an array, or, if it was trained on "
            "pictures by an earlier Besom, train it again"
        )
    files = [path] if path.is_file() else sorted(_pictures_in(path))
    if not files:
        raise DataError(f"{path}: it holds no {', '.join(SUFFIXES)} file; name a folder of pictures, or one picture")
    for first in range(0, len(files), rows):
        batch = files[first : first + rows]
        x = [read_picture(file, size, max_value=inputs.max_value or 255.0, invert=invert) for file in batch]
        names = [file.name if file == path else str(file.relative_to(path)) for file in batch]
        yield Piece(names=names, x=torch.from_numpy(np.stack(x)))


def _pictures_in(folder: Path) -> Iterable[Path]:
    return (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
