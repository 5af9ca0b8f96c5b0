"""Columns of a table as tensors: numbers as they are, text one-hot, targets as numbers or class indices."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from besom.data.source import Task
from besom.data.table_files import Table
from besom.errors import DataError

MOST_CATEGORIES = 256  # text with more values than this is an identifier
MOST_CLASSES = 20  # a whole-number target with more values than this is a quantity
MOSTLY = 0.8  # text of which so much reads as numbers is a column of numbers with a slip in it


class Kind(StrEnum):
    """What a column holds."""

    NUMBER = "numbers"
    TRUTH = "booleans"
    TEXT = "text"


def kind(table: Table, column: str) -> Kind:
    """Return what `column` holds; DataError if that is neither numbers, booleans nor text."""
    values = table.frame[column]
    if isinstance(values.dtype, pd.CategoricalDtype):
        return Kind.TEXT
    if pd.api.types.is_bool_dtype(values):
        return Kind.TRUTH
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.infer_dtype(values) == "decimal":
        return Kind.NUMBER
    if pd.api.types.is_string_dtype(values):
        return Kind.TEXT
    raise DataError(
        f"{table.path}: column {column!r} holds {values.dtype} values; turn them into numbers or text, "
        "or leave the column out of data.source.features"
    )


def refuse_slips(table: Table, columns: Sequence[str]) -> None:
    """Raise DataError at text among numbers: a slip, which turns the whole column into text."""
    for column in columns:
        if kind(table, column) is not Kind.TEXT:
            continue
        values = table.frame[column].astype(str)
        no_number = pd.to_numeric(values, errors="coerce").isna().to_numpy()
        if MOSTLY <= 1 - no_number.mean() < 1:
            index = int(no_number.argmax())
            slip = values.iloc[index]
            raise table.refusal(index, f"column {column!r} holds {slip!r} among numbers; correct it")


def feature_names(table: Table, columns: Sequence[str]) -> dict[str, bool]:
    """Return the names of the features that `columns` make, and of each whether it is numeric (to be scaled).

    A column of numbers or booleans is one feature of that name. Text makes one feature "column=value" per
    value, in sorted order. Raises DataError for text that identifies rows instead of grouping them.
    """
    names: dict[str, bool] = {}
    for column in columns:
        if kind(table, column) is not Kind.TEXT:
            names[column] = True
            continue
        values = sorted(set(table.frame[column].astype(str)))
        if len(values) == len(table.frame) or len(values) > MOST_CATEGORIES:
            raise DataError(
                f"{table.path}: column {column!r} is text with {len(values)} different values in "
                f"{len(table.frame)} rows, no category; list the other columns in data.source.features"
            )
        names |= {f"{column}={value}": False for value in values}
    return names


def encode_features(table: Table, names: Sequence[str]) -> Tensor:
    """Return float32 [rows, len(names)]: the features that `feature_names` named, in its order.

    The table may be another than the one that they were named after.
    Raises DataError if a column is missing, holds text for numbers, or a category that `names` lacks.
    """
    by_column: dict[str, list[str]] = {}
    for name in names:
        column, value = split_name(name, table.frame.columns)
        by_column.setdefault(column, []).extend([] if value is None else [value])
    table.require(by_column)
    table.require_complete(list(by_column))
    parts = []
    for column, values in by_column.items():
        if not values:
            parts.append(numbers(table, column)[:, None])
            continue
        found = class_indices(table, column, values)
        parts.append(np.eye(len(values), dtype=np.float32)[found])
    return torch.from_numpy(np.concatenate(parts, axis=1))


def split_name(name: str, columns: Sequence[str] | pd.Index) -> tuple[str, str | None]:
    """Return the column and, for a one-hot feature, the value that a feature name stands for."""
    if name in columns:
        return name, None
    owners = [column for column in columns if name.startswith(f"{column}=")]
    column = max(owners, key=len, default=name.partition("=")[0])
    return column, name[len(column) + 1 :] if "=" in name else None


def numbers(table: Table, column: str) -> np.ndarray:
    """Return a column as float32 [rows]; DataError, with the first offending value, if it holds text."""
    if kind(table, column) is Kind.TEXT:
        values = table.frame[column].astype(str)
        index = int(pd.to_numeric(values, errors="coerce").isna().to_numpy().argmax())
        raise table.refusal(index, f"column {column!r} holds the text {values.iloc[index]!r}; numbers are needed")
    return table.floats(column)


def class_indices(table: Table, column: str, names: Sequence[str]) -> np.ndarray:
    """Return each row's place in `names`, int64 [rows]; DataError if a row holds something else."""
    values = labels(table, column)
    found: np.ndarray = pd.Index(names).get_indexer(pd.Index(values))
    if (found < 0).any():
        index = int((found < 0).argmax())
        raise table.refusal(
            index, f"column {column!r} holds {values[index]!r}, which the training file lacks; drop the row"
        )
    return found.astype(np.int64)


def labels(table: Table, column: str) -> list[str]:
    """Return a column as text, a whole number without a decimal point."""
    if kind(table, column) is Kind.NUMBER:
        values = table.frame[column].to_numpy(dtype=np.float64)
        return [str(int(value)) if value.is_integer() else str(value) for value in values.tolist()]
    return table.frame[column].astype(str).tolist()


def class_names(table: Table, column: str) -> tuple[str, ...]:
    """Return the values of `column`: numbers by size, text by alphabet, False before True."""
    names = set(labels(table, column))
    if kind(table, column) is not Kind.NUMBER:
        return tuple(sorted(names))
    table.floats(column)  # refuses what is not finite
    return tuple(sorted(names, key=float))


def infer_task(table: Table, target: str) -> Task:
    """Return the task that `target` poses, by the rule that `besom.data.tables.csv` states."""
    values = table.frame[target]
    if kind(table, target) is Kind.NUMBER:
        distinct = values.nunique()
        few = distinct <= MOST_CLASSES and 2 * distinct <= len(values)
        if not (few and pd.api.types.is_integer_dtype(values)):
            return Task.REGRESSION
    return Task.BINARY if values.nunique() <= 2 else Task.MULTICLASS
