"""Columns of a table as arrays: numbers as they are, text one-hot, targets as numbers or class indices."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pandas as pd

from besom.config.model_inputs import Column, Kind
from besom.data.tables.notations import Cells, remedy
from besom.data.tables.table import Table
from besom.data.task import Task
from besom.errors import DataError

_MOST_CATEGORIES = 256  # text with more values than this is an identifier
_MOST_CLASSES = 20  # a whole-number target with more values than this is a quantity
_MOSTLY = 0.8  # text with at least this share of numbers is a damaged column of numbers
_MOST_WORDS = 2  # beside many different numbers, this few different words are damage as well
_BLURRED = 1e-3  # of its spread: a column that float32 changes by more is unusable

_TRUTHS = {"true": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "0": 0.0, "0.0": 0.0}


def kind(table: Table, column: str) -> Kind:
    """Return the kind of `column`; raise DataError unless it contains numbers, booleans or text."""
    values = table.frame[column]
    if column in table.categories or isinstance(values.dtype, pd.CategoricalDtype):
        return Kind.TEXT
    if pd.api.types.is_bool_dtype(values):
        return Kind.TRUTH
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.infer_dtype(values) in ("decimal", "integer"):
        return Kind.NUMBER
    if pd.api.types.is_string_dtype(values):
        return Kind.TEXT
    raise DataError(
        f"{table.path}: column {column!r} holds {values.dtype} values; turn them into numbers or text, "
        "or leave the column out of data.source.features"
    )


def refuse_damaged_numbers(table: Table, columns: Sequence[str]) -> None:
    """Raise DataError at a cell that keeps a column from being numeric: a typo, or a number in human notation."""
    for column in columns:
        values = table.frame[column]
        if kind(table, column) is not Kind.TEXT or column in table.categories:
            continue
        if isinstance(values.dtype, pd.CategoricalDtype):
            continue
        cells = Cells.of(values, table.reading)
        if not cells.plain.all() and _is_damaged_numbers(cells):
            index = int(cells.plain.to_numpy().argmin())
            raise table.refusal(
                index, f"column {column!r} holds {cells.text.iloc[index]!r}{remedy(table, column, cells, index)}"
            )


def _is_damaged_numbers(cells: Cells) -> bool:
    """Return whether a column of text is a damaged column of numbers."""
    numbers = cells.numbers
    words = ~numbers & ~cells.marks
    if not numbers.any() or numbers.mean() >= _MOSTLY or not words.any():
        return bool(numbers.any())
    different = cells.text[numbers.to_numpy()].unique()
    many = len(different) > _MOST_CLASSES or any(not cell.strip().lstrip("+-").isdigit() for cell in different)
    return bool(numbers.mean() > 0.5 and many and cells.text[words.to_numpy()].nunique() <= _MOST_WORDS)


def describe(table: Table, columns: Sequence[str]) -> tuple[Column, ...]:
    """Return the descriptions of `columns`; that of text lists its sorted values.

    Each of these values makes a feature, any other column makes one. Raises DataError for text that identifies rows
    instead of grouping them.
    """
    return tuple(_describe(table, name) for name in columns)


def _describe(table: Table, name: str) -> Column:
    column_kind = kind(table, name)
    if column_kind is not Kind.TEXT:
        return Column(name=name, kind=column_kind)
    values = tuple(sorted(set(labels(table, name))))
    if len(values) == len(table.frame) or len(values) > _MOST_CATEGORIES:
        raise DataError(
            f"{table.path}: column {name!r} is text with {len(values)} different values in "
            f"{len(table.frame)} rows, no category; list the other columns in data.source.features"
        )
    return Column(name=name, kind=Kind.TEXT, values=values)


def encode_features(table: Table, columns: Sequence[Column]) -> np.ndarray:
    """Return the features as float64 [rows, features]: numbers and booleans unchanged, text one-hot.

    The table may differ from the one that the columns describe. Raises DataError if a column is missing, contains text
    instead of numbers, or an unknown category.
    """
    names = [column.name for column in columns]
    table.require(names)
    table.require_complete(names)
    parts = []
    for column in columns:
        if column.kind is Kind.TEXT:
            parts.append(np.eye(len(column.values))[class_indices(table, column.name, column.values)])
        else:
            if column.kind is Kind.NUMBER:
                _refuse_truths(table, column.name)
            read = _truths if column.kind is Kind.TRUTH else numbers
            parts.append(read(table, column.name)[:, None])
    return np.concatenate(parts, axis=1)


def _refuse_truths(table: Table, column: str) -> None:
    """Raise DataError at a boolean in a column of numbers, where it would count as 0 or 1."""
    values = table.frame[column]
    if not (pd.api.types.is_bool_dtype(values) or pd.api.types.is_object_dtype(values)):
        return
    wrong = values.map(lambda value: isinstance(value, bool | np.bool_)).to_numpy(dtype=bool)
    if wrong.any():
        index = int(wrong.argmax())
        what = values.iloc[index]
        raise table.refusal(index, f"column {column!r} holds {what}, and the training file has numbers; correct it")


def numbers(table: Table, column: str) -> np.ndarray:
    """Return a column as float64 [rows]; raise DataError, with the first offending value, if it contains text.

    Also for whole numbers that float64 cannot distinguish, in a file to train on.
    """
    if kind(table, column) is Kind.TEXT:
        cells = Cells.of(table.frame[column], table.reading)
        index = int(cells.plain.to_numpy().argmin())
        held, mark = cells.text.iloc[index], table.reading.decimal
        needed = "numbers are needed" if mark == "." else f"numbers are needed, with {mark!r} before their decimals"
        raise table.refusal(index, f"column {column!r} holds the text {held!r}; {needed}")
    values = table.floats(column)
    if not table.new and pd.api.types.infer_dtype(table.frame[column]) == "integer":
        _refuse_merged(table, column, values)
    return values


def _refuse_merged(table: Table, column: str, floats: np.ndarray) -> None:
    values = table.frame[column]
    order = values.argsort().to_numpy()
    exact, rounded = values.to_numpy(dtype=object)[order], floats[order]
    merged = (exact[1:] != exact[:-1]) & (rounded[1:] == rounded[:-1])
    if merged.any():
        first = int(merged.argmax())
        raise DataError(
            f"{table.path}: column {column!r} holds {exact[first]} and {exact[first + 1]}, which 64-bit floats cannot "
            "tell apart; subtract a constant from it, list it in data.source.categories, or leave it out of "
            "data.source.features"
        )


def as_float32(table: Table, column: str) -> np.ndarray:
    """Return a column of numbers as float32 [rows]; raise DataError if that loses its values."""
    exact = numbers(table, column)
    rounded = exact.astype(np.float32)
    if np.abs(rounded - exact).max() > _BLURRED * np.ptp(exact) > 0:
        raise DataError(
            f"{table.path}: column {column!r} holds {len(np.unique(exact))} different values, of which 32-bit floats, "
            f"in which models compute, keep {len(np.unique(rounded))}; subtract a constant such as {exact.min():.16g} "
            "from it"
        )
    return rounded


def _truths(table: Table, column: str) -> np.ndarray:
    """Return a column of booleans as 0 and 1, float64 [rows]; raise DataError for any other value."""
    if kind(table, column) is Kind.TRUTH:
        return table.floats(column)
    values = table.frame[column].map(lambda value: _TRUTHS.get(str(value).lower(), np.nan)).to_numpy(dtype=np.float64)
    unread = np.isnan(values)
    if unread.any():
        index = int(unread.argmax())
        what = str(table.frame[column].iloc[index])
        raise table.refusal(index, f"column {column!r} holds {what!r}, and the training file has booleans; correct it")
    return values


def class_indices(table: Table, column: str, names: Sequence[str]) -> np.ndarray:
    """Return each row's index in `names`, int64 [rows]; raise DataError for any other value."""
    values = labels(table, column)
    indices: np.ndarray = pd.Index(names).get_indexer(pd.Index(values))
    if (indices < 0).any():
        index = int((indices < 0).argmax())
        raise table.refusal(
            index, f"column {column!r} holds {values[index]!r}, which the training file lacks; drop the row"
        )
    return indices.astype(np.int64)


def labels(table: Table, column: str) -> list[str]:
    """Return a column as text: numbers with all digits, whole ones without a decimal point."""
    values = table.frame[column]
    if isinstance(values.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(values):
        return values.astype(str).tolist()
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.infer_dtype(values) in ("decimal", "integer"):
        return [_label(value) for value in values.tolist()]
    return values.astype(str).tolist()


def _label(value: int | float | Decimal) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return format(value.normalize(), "f") if value.is_finite() else str(value)


def class_names(table: Table, column: str) -> tuple[str, ...]:
    """Return the values of `column`: numbers by size, text alphabetically, False before True."""
    names = set(labels(table, column))
    if kind(table, column) is not Kind.NUMBER:
        return tuple(sorted(names))
    table.floats(column)  # refuses values that are not finite
    return tuple(sorted(names, key=Decimal))


def infer_task(table: Table, target: str) -> Task:
    """Return the task of `target`, by the rule in `besom.data.tables.csv`."""
    values = table.frame[target]
    if target in table.quantities:
        return Task.REGRESSION
    if kind(table, target) is Kind.NUMBER:
        distinct = values.nunique()
        few = distinct <= _MOST_CLASSES and 2 * distinct <= len(values)
        if not (few and pd.api.types.infer_dtype(values) == "integer"):
            return Task.REGRESSION
    return Task.BINARY if values.nunique() <= 2 else Task.MULTICLASS
