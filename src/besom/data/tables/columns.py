"""Columns of a table as arrays: numbers as they are, text one-hot, targets as numbers or class indices."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pandas as pd

from besom.config.model_inputs import Column, Kind
from besom.data.tables.files import Table
from besom.data.tables.notations import Cells, remedy
from besom.data.task import Task
from besom.errors import DataError

MOST_CATEGORIES = 256  # text with more values than this is an identifier
MOST_CLASSES = 20  # a whole-number target with more values than this is a quantity
MOSTLY = 0.8  # text of which so much reads as numbers is a column of numbers with a slip in it
MOST_WORDS = 2  # beside many different numbers, so few different words are slips as well
BLURRED = 1e-3  # of its spread: a column that 32-bit floats change by more is lost in them

_TRUTHS = {"true": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "0": 0.0, "0.0": 0.0}


def kind(table: Table, column: str) -> Kind:
    """Return what `column` holds; DataError if that is neither numbers, booleans nor text."""
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


def refuse_slips(table: Table, columns: Sequence[str]) -> None:
    """Raise DataError at what keeps a column of numbers from being one: a slip, or numbers as a person writes them."""
    for column in columns:
        values = table.frame[column]
        if kind(table, column) is not Kind.TEXT or column in table.categories:
            continue
        if isinstance(values.dtype, pd.CategoricalDtype):
            continue
        cells = Cells.of(values, table.reading)
        if not cells.plain.all() and _means_numbers(cells):
            index = int(cells.plain.to_numpy().argmin())
            raise table.refusal(
                index, f"column {column!r} holds {cells.text.iloc[index]!r}{remedy(table, column, cells, index)}"
            )


def _means_numbers(cells: Cells) -> bool:
    """Whether a column of text is one of numbers, damaged."""
    numbers = cells.numbers
    words = ~numbers & ~cells.marks
    if not numbers.any() or numbers.mean() >= MOSTLY or not words.any():
        return bool(numbers.any())
    different = cells.text[numbers.to_numpy()].unique()
    many = len(different) > MOST_CLASSES or any(not cell.strip().lstrip("+-").isdigit() for cell in different)
    return bool(numbers.mean() > 0.5 and many and cells.text[words.to_numpy()].nunique() <= MOST_WORDS)


def describe(table: Table, columns: Sequence[str]) -> tuple[Column, ...]:
    """Return what `columns` hold, of text the sorted values: each makes a feature, any other column makes one.

    Raises DataError for text that identifies rows instead of grouping them.
    """
    return tuple(_describe(table, name) for name in columns)


def _describe(table: Table, name: str) -> Column:
    found = kind(table, name)
    if found is not Kind.TEXT:
        return Column(name=name, kind=found)
    values = tuple(sorted(set(labels(table, name))))
    if len(values) == len(table.frame) or len(values) > MOST_CATEGORIES:
        raise DataError(
            f"{table.path}: column {name!r} is text with {len(values)} different values in "
            f"{len(table.frame)} rows, no category; list the other columns in data.source.features"
        )
    return Column(name=name, kind=Kind.TEXT, values=values)


def encode_features(table: Table, columns: Sequence[Column]) -> np.ndarray:
    """Return float64 [rows, features]: numbers and booleans as they are, text one-hot.

    The table may be another than the one that the columns describe.
    Raises DataError if a column is missing, holds text for numbers, or a category that its description lacks.
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
            read = truths if column.kind is Kind.TRUTH else numbers
            parts.append(read(table, column.name)[:, None])
    return np.concatenate(parts, axis=1)


def _refuse_truths(table: Table, column: str) -> None:
    """Raise DataError at a boolean in a column of numbers: it would count as 0 or 1."""
    values = table.frame[column]
    if not (pd.api.types.is_bool_dtype(values) or pd.api.types.is_object_dtype(values)):
        return
    wrong = values.map(lambda value: isinstance(value, bool | np.bool_)).to_numpy(dtype=bool)
    if wrong.any():
        index = int(wrong.argmax())
        what = values.iloc[index]
        raise table.refusal(index, f"column {column!r} holds {what}, and the training file has numbers; correct it")


def numbers(table: Table, column: str) -> np.ndarray:
    """Return a column as float64 [rows]; DataError, with the first offending value, if it holds text.

    And if it holds whole numbers that float64 cannot tell apart, in a file to train on.
    """
    if kind(table, column) is Kind.TEXT:
        cells = Cells.of(table.frame[column], table.reading)
        index = int(cells.plain.to_numpy().argmin())
        held, mark = cells.text.iloc[index], table.reading.decimal
        needed = "numbers are needed" if mark == "." else f"numbers are needed, with {mark!r} before their decimals"
        raise table.refusal(index, f"column {column!r} holds the text {held!r}; {needed}")
    found = table.floats(column)
    if not table.new and pd.api.types.infer_dtype(table.frame[column]) == "integer":
        _refuse_merged(table, column, found)
    return found


def _refuse_merged(table: Table, column: str, found: np.ndarray) -> None:
    values = table.frame[column]
    order = values.argsort().to_numpy()
    exact, rounded = values.to_numpy(dtype=object)[order], found[order]
    merged = (exact[1:] != exact[:-1]) & (rounded[1:] == rounded[:-1])
    if merged.any():
        one = int(merged.argmax())
        raise DataError(
            f"{table.path}: column {column!r} holds {exact[one]} and {exact[one + 1]}, which 64-bit floats cannot tell "
            "apart; subtract a constant from it, list it in data.source.categories, or leave it out of "
            "data.source.features"
        )


def as_float32(table: Table, column: str) -> np.ndarray:
    """Return a column of numbers as float32 [rows]; DataError if its values are lost in that."""
    exact = numbers(table, column)
    rounded = exact.astype(np.float32)
    if np.abs(rounded - exact).max() > BLURRED * np.ptp(exact) > 0:
        raise DataError(
            f"{table.path}: column {column!r} holds {len(np.unique(exact))} different values, of which 32-bit floats, "
            f"in which models compute, keep {len(np.unique(rounded))}; subtract a constant such as {exact.min():.16g} "
            "from it"
        )
    return rounded


def truths(table: Table, column: str) -> np.ndarray:
    """Return a column of booleans as 0 and 1, float64 [rows]; DataError if a row holds something else."""
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
    """Return a column as text: each number by all of its digits, a whole one without a decimal point."""
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
    """Return the values of `column`: numbers by size, text by alphabet, False before True."""
    names = set(labels(table, column))
    if kind(table, column) is not Kind.NUMBER:
        return tuple(sorted(names))
    table.floats(column)  # refuses what is not finite
    return tuple(sorted(names, key=Decimal))


def infer_task(table: Table, target: str) -> Task:
    """Return the task that `target` poses, by the rule that `besom.data.tables.csv` states."""
    values = table.frame[target]
    if target in table.quantities:
        return Task.REGRESSION
    if kind(table, target) is Kind.NUMBER:
        distinct = values.nunique()
        few = distinct <= MOST_CLASSES and 2 * distinct <= len(values)
        if not (few and pd.api.types.infer_dtype(values) == "integer"):
            return Task.REGRESSION
    return Task.BINARY if values.nunique() <= 2 else Task.MULTICLASS
