"""A table: the rows of a user's file, and errors that name the file, row and column."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from besom.config.model_inputs import Reading
from besom.data.tables.text import records
from besom.errors import DataError

SEPARATOR_KEY, SEPARATOR_FLAG = "data.source.separator", "--separator"
"""The settings of the separator: the key for a file to train on, the flag for a file to predict."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A file's rows as a frame numbered from 0; `separator` is None for Parquet.

    new         whether these are rows to predict, and not to train on
    first       the number of the file's rows before these
    file        the file with the text, if `path` is only its name in errors
    reading     how that text is read
    categories  the columns that are text, whatever they look like
    quantities  the columns of numbers with marked thousands, which are never classes
    rows        the position of each row in the file, from 0, if some rows were left out
    notes       lines for the user about what was left out
    """

    path: Path
    frame: pd.DataFrame
    separator: str | None
    new: bool = False
    first: int = 0
    file: Path | None = None
    reading: Reading = field(default_factory=Reading)
    categories: frozenset[str] = frozenset()
    quantities: frozenset[str] = frozenset()
    rows: Sequence[int] | None = None
    notes: tuple[str, ...] = ()

    def refusal(self, index: int, what: str) -> DataError:
        """Return the error for row `index` (0-based).

        For a file to train on, the row number is the line of the text, whose header is line 1, or the record's number
        in Parquet, from 1. For a file to predict, it is the row number of the answer, from 0, followed by the line of a
        text file.
        """
        record, row = self._record(index), self._row_in_file(index)
        if self.new:
            line = "" if record is None else f" (line {record[0]})"
            return DataError(f"{self.path}: row {row}{line}, {what}")
        return DataError(f"{self.path}: row {row + 1 if record is None else record[0]}, {what}")

    def written(self, index: int, column: str) -> str:
        """Return the text of a cell in a text file, even if it means a missing value; "" for Parquet."""
        record = self._record(index)
        position = list(self.frame.columns).index(column)
        return record[1][position].strip() if record is not None and position < len(record[1]) else ""

    def _row_in_file(self, index: int) -> int:
        return self.first + index if self.rows is None else int(self.rows[index])

    def _record(self, index: int) -> tuple[int, list[str]] | None:
        """Return the line and the cells of a row in a text file; None for a row without text."""
        if self.separator is None:
            return None
        lines = records(self.file or self.path, self.separator, self.reading)
        return next(islice(lines, self._row_in_file(index) + 1, None))  # record 0 is the header

    def require(self, columns: Iterable[str]) -> None:
        """Raise DataError if one of `columns` is missing, listing the existing ones and naming the closest."""
        existing = list(self.frame.columns)
        for column in columns:
            if column in existing:
                continue
            close = difflib.get_close_matches(column, existing, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "name one of these"
            if len(existing) == 1 and any(mark in existing[0] for mark in ";\t|"):
                option = SEPARATOR_FLAG if self.new else SEPARATOR_KEY
                hint = f"the columns seem to be divided by another mark; set {option}"
            elif not self.new and column in self.frame.iloc[0].astype(str).tolist():
                hint = f"the header seems to come later; {skip_hint(self.reading)}"
            listed = ", ".join(existing[:20]) + (", …" if len(existing) > 20 else "")
            raise DataError(f"{self.path}: no column {column!r} among {listed}; {hint}")

    def require_complete(self, columns: list[str]) -> None:
        """Raise DataError at the first missing value in `columns`; for a file to train on, with their number."""
        missing = self.frame[columns].isna().to_numpy()
        if not missing.any():
            return
        index, place = divmod(int(missing.argmax()), len(columns))
        column = columns[place]
        held = self.written(index, column)
        what = (
            f"column {column!r} holds {held!r}, which is read as missing" if held else f"column {column!r} is missing"
        )
        if self.new:
            raise self.refusal(index, f"{what}; fill it, or drop the row")
        what += f" ({missing.sum()} missing in all); "
        if held and not pd.api.types.is_numeric_dtype(self.frame[column]) and self.reading.missing is None:
            what += f"{setting('categories', [column])} keeps it as a category; else "
        raise self.refusal(
            index,
            f"{what}fill it, drop the row, or leave the column out of data.source.features; "
            "data.source.drop_missing=true trains without such rows",
        )

    def floats(self, column: str) -> np.ndarray:
        """Return a column of numbers or booleans as float64 [rows]; raise DataError if one is not finite in float32."""
        try:
            values = self.frame[column].to_numpy(dtype=np.float64, copy=True)
        except OverflowError:  # a whole number beyond the range of floats
            values = np.array([float(str(value)) for value in self.frame[column]])
        with np.errstate(over="ignore"):
            finite = np.isfinite(values.astype(np.float32))
        if not finite.all():
            index = int(finite.argmin())
            value = str(self.frame[column].iloc[index])
            held = value if len(value) <= 40 else f"{value[:20]}… ({len(value)} digits)"
            raise self.refusal(
                index,
                f"column {column!r} holds {held}, which is no finite 32-bit number; correct or drop it",
            )
        return values


def without_missing(table: Table, columns: list[str]) -> Table:
    """Return the table without rows that miss a value in one of `columns`, with a note about them.

    Raises DataError if none is left.
    """
    missing = table.frame[columns].isna()
    rows = np.flatnonzero(~missing.any(axis=1).to_numpy())
    frame = table.frame.iloc[rows].reset_index(drop=True)
    for column in columns:
        values = frame[column]
        plain = getattr(values.dtype, "numpy_dtype", None)  # of the nullable types Int64, Float64 and boolean
        frame[column] = values.infer_objects() if plain is None else values.to_numpy(dtype=plain)
    left_out = len(table.frame) - len(rows)
    if not left_out:
        return replace(table, frame=frame)
    counts = ", ".join(f"{column!r} {count}" for column, count in missing.sum().items() if count)
    what = f"{left_out} of {len(table.frame)} rows for a missing value (in {counts})"
    if not len(rows):
        raise DataError(f"{table.path}: data.source.drop_missing leaves out {what}; leave columns out instead")
    return replace(table, frame=frame, rows=rows.tolist(), notes=(*table.notes, f"left out: {what}"))


def setting(key: str, value: object) -> str:
    """Return the override that sets a key of the source, quoted for a shell."""
    return f"'data.source.{key}={json.dumps(value, ensure_ascii=False)}'"


def skip_hint(reading: Reading) -> str:
    """Return the remedy for a header that comes later in the file."""
    return f"set data.source.skip_rows={reading.skip_rows + 1} (the lines before it)"
