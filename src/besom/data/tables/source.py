"""A user's own table, CSV or Parquet, as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from besom.config.model_inputs import Kind
from besom.data.dataset import Source
from besom.data.tables.columns import as_float32, class_indices, encode_features
from besom.data.tables.inspection import TableRequest, inspect_table
from besom.data.tables.table import Table
from besom.data.tables.text import without_compression


def csv(
    path: str,
    target: str,
    task: str = "auto",
    features: Sequence[str] | None = None,
    test_path: str | None = None,
    categories: Sequence[str] | None = None,
    separator: str | None = None,
    decimal: str = ".",
    thousands: str | None = None,
    missing: Sequence[str] | None = None,
    drop_missing: bool = False,
    encoding: str | None = None,
    compression: str | None = None,
    skip_rows: int = 0,
) -> Source:
    """Return the table at `path` (.csv, .tsv or .parquet) as a data set that predicts the column `target`.

    `features` lists the columns to learn from (None: all others). Numbers stay unchanged, booleans become 0 and 1, text
    becomes one unscaled column "name=value" per value; so do all `categories`. `test_path` has the official test part.

    `task=auto`: a target of text or booleans, or of at most 20 different whole numbers with two rows each on average,
    is classes (binary if there are two); any other is regression. So 0.0 and 1.0 are numbers: write `task=binary`.
    Numeric classes are ordered by size, named ones alphabetically.

    `separator` divides cells, `decimal` precedes decimals, `thousands` divides digits; `missing` lists the marks of a
    missing value, instead of pandas' own (NA, null, nan and the like), which do not apply to `categories`. `encoding`
    defaults to UTF-8, `compression` (gzip, bz2, xz, zip) to the suffix's; `skip_rows` lines precede the header. Rows
    with a missing value are refused, or dropped with `drop_missing`. An unchanged file is read once per process. Raises
    DataError, naming file, row and column, if it cannot be read or does not suit the task, and ConfigError for a value
    out of range.
    """
    return _load(
        TableRequest.of(
            path=path,
            target=target,
            task=task,
            features=features,
            test_path=test_path,
            categories=categories,
            separator=separator,
            decimal=decimal,
            thousands=thousands,
            missing=missing,
            drop_missing=drop_missing,
            encoding=encoding,
            compression=compression,
            skip_rows=skip_rows,
        )
    )


@lru_cache(maxsize=4)
def _load(request: TableRequest) -> Source:
    inspected = inspect_table(request)
    test = inspected.test
    return Source(
        name=without_compression(request.path).stem,
        task=inspected.task,
        x=torch.from_numpy(encode_features(inspected.table, inspected.columns)),
        y=_encode_target(inspected.table, request.target, inspected.classes),
        test_x=None if test is None else torch.from_numpy(encode_features(test, inspected.columns)),
        test_y=None if test is None else _encode_target(test, request.target, inspected.classes),
        feature_names=tuple(feature for column in inspected.columns for feature in column.features),
        class_names=inspected.classes,
        numeric=torch.tensor([column.kind is not Kind.TEXT for column in inspected.columns for _ in column.features]),
        columns=inspected.columns,
        target=inspected.target,
        reading=request.reading,
        notes=inspected.notes,
    )


def _encode_target(table: Table, target: str, classes: tuple[str, ...]) -> Tensor:
    return torch.from_numpy(class_indices(table, target, classes) if classes else as_float32(table, target))
