"""Reading a user's CSV or Parquet file, and saying where in it something is wrong."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from besom.errors import ConfigError, DataError

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")
_KEY, _FLAG = "data.source.separator", "--separator"  # how to name a separator: of a file to train on, of a new one


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A file's rows as a frame numbered from 0; `separator` is None for Parquet.

    new    whether they are what a trained model is asked about, which takes all of its columns
    first  how many rows of the file come before these
    file   where the text lies, if `path` is but what to call it
    """

    path: Path
    frame: pd.DataFrame
    separator: str | None
    new: bool = False
    first: int = 0
    file: Path | None = None

    def refusal(self, index: int, what: str) -> DataError:
        """Return the error that says what is wrong in row `index` (0-based), numbered as a person counts.

        That is the line of a text file, whose header is line 1, and the record's number in Parquet, from 1.
        """
        row = self.first + index + 1
        if self.separator is not None:
            records = _records(self.file or self.path, self.separator)
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
                hint = f"the columns seem to be divided by another mark; set {_FLAG if self.new else _KEY}"
            listed = ", ".join(there[:20]) + (", …" if len(there) > 20 else "")
            raise DataError(f"{self.path}: no column {column!r} among {listed}; {hint}")

    def require_complete(self, columns: list[str]) -> None:
        """Raise DataError at the first missing value in `columns`, counting them all in a file to train on."""
        missing = self.frame[columns].isna().to_numpy()
        if not missing.any():
            return
        index, column = divmod(int(missing.argmax()), len(columns))
        what = "; fill it, or drop the row"
        if not self.new:
            what = (
                f" ({missing.sum()} missing in all); fill it, drop the row, or leave the column out of "
                "data.source.features"
            )
        raise self.refusal(index, f"column {columns[column]!r} is missing{what}")

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
    with _refusing(path):
        table = _read_parquet(path) if path.suffix.lower() in PARQUET else _read_text(path, separator, text)
    if not len(table.frame):
        raise _no_rows(path)
    return table


def read_pieces(
    path: Path,
    separator: str | None = None,
    *,
    rows: int,
    text: Iterable[str] = (),
    shown: Path | None = None,
) -> Iterator[Table]:
    """Yield the rows that a trained model is asked about, so many at a time, from a file like `read_table`'s.

    `shown` is what errors call the file. Raises DataError as `read_table` does.
    """
    shown = shown or path
    with _refusing(path, shown):
        if path.suffix.lower() in PARQUET:
            divider, frames = None, _parquet_pieces(path, rows, shown)
        else:
            divider = _check_text(path, separator, shown, _FLAG)
            frames = iter(_open_text(path, divider, text, chunksize=rows))
    first = 0
    while True:
        with _refusing(path, shown):
            frame = next(frames, None)
        if frame is None or not len(frame):
            break
        yield Table(path=shown, frame=frame, separator=divider, new=True, first=first, file=path)
        first += len(frame)
    if not first:
        raise _no_rows(shown)


@contextmanager
def _refusing(path: Path, shown: Path | None = None) -> Iterator[None]:
    """Turn what comes of reading a file into a DataError of one line."""
    shown = shown or path
    if not path.is_file():
        raise DataError(f"{shown}: no such file; give the path of a .csv, .tsv or .parquet file")
    try:
        yield
    except UnicodeDecodeError:
        raise DataError(f"{shown}: not UTF-8 text; save it as UTF-8") from None
    except (ValueError, OSError, csv.Error) as error:  # pandas' and pyarrow's own errors are ValueErrors
        raise DataError(f"{shown}: cannot be read ({' '.join(str(error).split())}); correct it") from None


def _no_rows(path: Path) -> DataError:
    return DataError(f"{path}: there is a header and no rows; give one with rows")


def _read_parquet(path: Path) -> Table:
    frame = pd.read_parquet(path)
    frame.columns = frame.columns.map(str)
    _refuse_twins(path, list(frame.columns))
    return Table(path=path, frame=frame, separator=None)


def _parquet_pieces(path: Path, rows: int, shown: Path) -> Iterator[pd.DataFrame]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=rows):
            frame = batch.to_pandas()
            frame.columns = frame.columns.map(str)
            _refuse_twins(shown, list(frame.columns))
            yield frame.reset_index(drop=True)


def _read_text(path: Path, separator: str | None, text: Iterable[str]) -> Table:
    divider = _check_text(path, separator, path, _KEY)
    return Table(path=path, frame=_open_text(path, divider, text), separator=divider)


def _check_text(path: Path, separator: str | None, shown: Path, option: str) -> str:
    """Return what divides the cells of a text file whose opening is in order."""
    separator = separator or SEPARATORS.get(path.suffix.lower())
    if separator is None:
        raise DataError(f"{shown}: neither .csv, .tsv nor .parquet; set {option} if it is text")
    if len(separator) != 1:
        raise ConfigError(f"{option}: {separator!r} is not one character; give one, as in ';'")
    opening = [cells for _, cells in islice(_records(path, separator), 2)]
    if not opening:
        raise DataError(f"{shown}: the file is empty; give one with a header and rows")
    header, first = opening[0], opening[-1]
    _refuse_twins(shown, header)
    if len(first) > len(header):  # pandas would take the first column for row labels
        raise DataError(f"{shown}: {len(first)} cells in the first row under {len(header)} names; name each column")
    return separator


def _open_text(path: Path, separator: str, text: Iterable[str], **how: Any) -> Any:
    # A whole column at once (low_memory=False), or its type may change halfway.
    types = dict.fromkeys(text, "str")
    return pd.read_csv(path, sep=separator, encoding="utf-8-sig", low_memory=False, dtype=types, **how)


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
