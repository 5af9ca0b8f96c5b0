"""Columns of a table as tensors: numbers as they are, text one-hot, targets as numbers or class indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from besom.data.source import Task
from besom.data.table_files import Table
from besom.errors import DataError
from besom.inputs import Column, Kind

MOST_CATEGORIES = 256  # text with more values than this is an identifier
MOST_CLASSES = 20  # a whole-number target with more values than this is a quantity
MOSTLY = 0.8  # text of which so much reads as numbers is a column of numbers with a slip in it

_TRUTHS = {"true": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "0": 0.0, "0.0": 0.0}


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


def describe(table: Table, columns: Sequence[str]) -> tuple[Column, ...]:
    """Return what `columns` hold, of text the sorted values: each makes a feature, any other column makes one.

    Raises DataError for text that identifies rows instead of grouping them.
    """
    return tuple(_describe(table, name) for name in columns)


def _describe(table: Table, name: str) -> Column:
    found = kind(table, name)
    if found is not Kind.TEXT:
        return Column(name=name, kind=found)
    values = tuple(sorted(set(table.frame[name].astype(str))))
    if len(values) == len(table.frame) or len(values) > MOST_CATEGORIES:
        raise DataError(
            f"{table.path}: column {name!r} is text with {len(values)} different values in "
            f"{len(table.frame)} rows, no category; list the other columns in data.source.features"
        )
    return Column(name=name, kind=Kind.TEXT, values=values)


def encode_features(table: Table, columns: Sequence[Column]) -> Tensor:
    """Return float32 [rows, features]: numbers and booleans as they are, text one-hot.

    The table may be another than the one that the columns describe.
    Raises DataError if a column is missing, holds text for numbers, or a category that its description lacks.
    """
    names = [column.name for column in columns]
    table.require(names)
    table.require_complete(names)
    parts = []
    for column in columns:
        if column.kind is Kind.TEXT:
            parts.append(np.eye(len(column.values), dtype=np.float32)[class_indices(table, column.name, column.values)])
        else:
            read = truths if column.kind is Kind.TRUTH else numbers
            parts.append(read(table, column.name)[:, None])
    return torch.from_numpy(np.concatenate(parts, axis=1))


def numbers(table: Table, column: str) -> np.ndarray:
    """Return a column as float32 [rows]; DataError, with the first offending value, if it holds text."""
    if kind(table, column) is Kind.TEXT:
        values = table.frame[column].astype(str)
        index = int(pd.to_numeric(values, errors="coerce").isna().to_numpy().argmax())
        raise table.refusal(index, f"column {column!r} holds the text {values.iloc[index]!r}; numbers are needed")
    return table.floats(column)


def truths(table: Table, column: str) -> np.ndarray:
    """Return a column of booleans as 0 and 1, float32 [rows]; DataError if a row holds something else."""
    if kind(table, column) is Kind.TRUTH:
        return table.floats(column)
    values = table.frame[column].map(lambda value: _TRUTHS.get(str(value).lower(), np.nan)).to_numpy(dtype=np.float32)
    unread = np.isnan(values)
    if unread.any():
        index = int(unread.argmax())
        what = str(table.frame[column].iloc[index])
        raise table.refusal(index, f"column {column!r} holds {what!r}, and the training file has booleans; correct it")
    return values


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
