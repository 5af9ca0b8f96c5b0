"""Reading a user's CSV or Parquet file, and saying where in it something is wrong."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from besom.errors import ConfigError, DataError

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A file's rows as a frame numbered from 0; `separator` is None for Parquet."""

    path: Path
    frame: pd.DataFrame
    separator: str | None

    def refusal(self, index: int, what: str) -> DataError:
        """Return the error that says what is wrong in row `index` (0-based), numbered as a person counts.

        That is the line of a text file, whose header is line 1, and the record's number in Parquet, from 1.
        """
        row = index + 1
        if self.separator is not None:
            records = _records(self.path, self.separator)
            row = [line for line, _ in records][row]  # record 0 is the header
        return DataError(f"{self.path}: row {row}, {what}")

    def require(self, columns: Iterable[str]) -> None:
        """Raise DataError if one of `columns` is not there, listing those that are and naming the closest."""
        there = list(self.frame.columns)
        for column in columns:
            if column in there:
                continue
            close = difflib.get_close_matches(column, there, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "name one of these"
            if len(there) == 1 and any(mark in there[0] for mark in ";\t|"):
                hint = "the columns seem to be divided by another mark; set data.source.separator"
            listed = ", ".join(there[:20]) + (", …" if len(there) > 20 else "")
            raise DataError(f"{self.path}: no column {column!r} among {listed}; {hint}")

    def require_complete(self, columns: list[str]) -> None:
        """Raise DataError at the first missing value in `columns`, counting them all."""
        missing = self.frame[columns].isna().to_numpy()
        if missing.any():
            index, column = divmod(int(missing.argmax()), len(columns))
            raise self.refusal(
                index,
                f"column {columns[column]!r} is missing ({missing.sum()} missing in all); fill it, drop the "
                "row, or leave the column out of data.source.features",
            )

    def floats(self, column: str) -> np.ndarray:
        """Return a column of numbers or booleans as float32 [rows]; DataError if one is not finite in it."""
        with np.errstate(over="ignore"):
            values = self.frame[column].to_numpy(dtype=np.float64).astype(np.float32)
        if not np.isfinite(values).all():
            index = int(np.isfinite(values).argmin())
            value = self.frame[column].iloc[index]
            raise self.refusal(
                index,
                f"column {column!r} holds {value}, which is no finite 32-bit number; correct or drop it",
            )
        return values


def read_table(path: Path, separator: str | None = None, *, text: Iterable[str] = ()) -> Table:
    """Read a CSV or TSV (or any divided text, given its `separator`) or Parquet file, as its suffix says.

    The columns in `text` are read as text even if they look like numbers.
    Raises DataError if the file is missing, empty, unreadable, or has a column twice.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a .csv, .tsv or .parquet file")
    try:
        if path.suffix.lower() in PARQUET:
            table = _read_parquet(path)
        else:
            table = _read_text(path, separator or SEPARATORS.get(path.suffix.lower()), text)
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except (ValueError, OSError, csv.Error) as error:  # pandas' and pyarrow's own errors are ValueErrors
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())}); correct it") from None
    if not len(table.frame):
        raise DataError(f"{path}: there is a header and no rows; give one with rows")
    return table


def _read_parquet(path: Path) -> Table:
    frame = pd.read_parquet(path)
    frame.columns = frame.columns.map(str)
    _refuse_twins(path, list(frame.columns))
    return Table(path=path, frame=frame, separator=None)


def _read_text(path: Path, separator: str | None, text: Iterable[str]) -> Table:
    if separator is None:
        raise DataError(f"{path}: neither .csv, .tsv nor .parquet; set data.source.separator if it is text")
    if len(separator) != 1:
        raise ConfigError(f"data.source.separator: {separator!r} is not one character; give one, as in ';'")
    opening = [cells for _, cells in islice(_records(path, separator), 2)]
    if not opening:
        raise DataError(f"{path}: the file is empty; give one with a header and rows")
    header, first = opening[0], opening[-1]
    _refuse_twins(path, header)
    if len(first) > len(header):  # pandas would take the first column for row labels
        raise DataError(f"{path}: {len(first)} cells in the first row under {len(header)} names; name each column")
    # A whole column at once (low_memory=False), or its type may change halfway.
    frame = pd.read_csv(path, sep=separator, encoding="utf-8-sig", low_memory=False, dtype=dict.fromkeys(text, "str"))
    return Table(path=path, frame=frame, separator=separator)


def _refuse_twins(path: Path, header: list[str]) -> None:
    twin = next((column for column in header if header.count(column) > 1), None)
    if twin is not None:
        raise DataError(f"{path}: column {twin!r} appears twice; rename or drop one")


def _records(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of a text file that pandas sees, with the line on which each begins."""
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=separator)
        begins = 1
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield begins, cells
            begins = reader.line_num + 1
