"""Readers of CSV and Parquet files, as one table or in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from besom.config.model_inputs import Reading
from besom.data.tables.numerals import with_numbers
from besom.data.tables.parquet import parquet_frame, parquet_pieces
from besom.data.tables.table import SEPARATOR_FLAG, SEPARATOR_KEY, Table, skip_hint
from besom.data.tables.text import UNREADABLE, not_decoded, opened, records, without_compression
from besom.errors import ConfigError, DataError, in_one_line

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_PARQUET = (".parquet", ".pq")

# pandas' marks of a missing value, by its documentation; listed here because they must not apply to categories.
_MARKS = (
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip

# pandas parses floats exactly since 3.1, and deprecates the option that earlier versions need for that.
_EXACT: dict[str, Any] = {}
if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):
    _EXACT = {"float_precision": "round_trip"}


def read_table(
    path: Path, reading: Reading | None = None, *, text: Iterable[str] = (), drop_missing: bool = False
) -> Table:
    """Read a CSV or TSV (or any delimited text, given its separator) or Parquet file, by its suffix.

    The columns in `text` are read as text even if they look like numbers. `drop_missing` is for a table whose rows with
    a missing value will be dropped: whole numbers and booleans beside one keep their type. Raises DataError if the file
    is missing, empty, unreadable, or has a duplicate column.
    """
    reading = reading or Reading()
    with _refusing(path, reading):
        if path.suffix.lower() in _PARQUET:
            table = _read_parquet(path, reading, frozenset(text))
        else:
            table = _read_text(path, reading, frozenset(text), drop_missing=drop_missing)
    if not len(table.frame):
        raise _no_rows(path)
    return table


def read_pieces(
    path: Path,
    reading: Reading | None = None,
    *,
    rows: int,
    text: Iterable[str] = (),
    shown: Path | None = None,
) -> Iterator[Table]:
    """Yield the rows to predict in pieces of `rows`, from a file like `read_table`'s.

    `shown` is the file's name in errors. Raises DataError as `read_table` does.
    """
    shown, reading, kept = shown or path, reading or Reading(), frozenset(text)
    with _refusing(path, reading, shown):
        if path.suffix.lower() in _PARQUET:
            separator, frames = None, parquet_pieces(path, rows)
        else:
            separator, header = _check_text(path, reading, shown, SEPARATOR_FLAG)
            frames = _text_pieces(path, separator, reading, _types(header, reading, kept), rows)
    first = 0
    while True:
        with _refusing(path, reading, shown):
            frame = next(frames, None)
        if frame is None or not len(frame):
            break
        _refuse_duplicates(shown, list(frame.columns))
        if separator is not None:
            frame, _ = with_numbers(frame, reading, kept)
        yield Table(
            path=shown, frame=frame, separator=separator, new=True, first=first, file=path, reading=reading,
            categories=kept,
        )  # fmt: skip
        first += len(frame)
    if not first:
        raise _no_rows(shown)


def header_cells(path: Path, reading: Reading) -> set[str]:
    """Return the cells of the first record of a text file; the empty set for Parquet or an unreadable file."""
    separator = _separator(path, reading)
    if path.suffix.lower() in _PARQUET or separator is None:
        return set()
    try:
        return set(next(records(path, separator, reading), (0, []))[1])
    except UNREADABLE:
        return set()  # reading it will report the error


@contextmanager
def _refusing(path: Path, reading: Reading, shown: Path | None = None) -> Iterator[None]:
    """Turn the exceptions of reading a file into a DataError of one line."""
    shown = shown or path
    if not path.is_file():
        raise DataError(f"{shown}: no such file; give the path of a .csv, .tsv or .parquet file")
    try:
        yield
    except UnicodeDecodeError:
        raise DataError(f"{shown}: {not_decoded(path, reading)}") from None
    except UNREADABLE as error:
        raise DataError(f"{shown}: cannot be read ({in_one_line(error)}); correct it") from None


def _no_rows(path: Path) -> DataError:
    return DataError(f"{path}: there is a header and no rows; give one with rows")


def _read_parquet(path: Path, reading: Reading, kept: frozenset[str]) -> Table:
    frame, has_labels = parquet_frame(path)
    _refuse_duplicates(path, list(frame.columns))
    notes = ("left out: the row labels, which have no name",) if has_labels else ()
    return Table(path=path, frame=frame, separator=None, reading=reading, categories=kept, notes=notes)


def _read_text(path: Path, reading: Reading, kept: frozenset[str], *, drop_missing: bool) -> Table:
    separator, header = _check_text(path, reading, path, SEPARATOR_KEY)
    exact: dict[str, Any] = {"dtype_backend": "numpy_nullable"} if drop_missing else {}
    with opened(path, reading) as lines:
        frame = pd.read_csv(lines, sep=separator, **_types(header, reading, kept), **exact)
    frame, quantities = with_numbers(frame, reading, kept)
    return Table(
        path=path, frame=frame, separator=separator, reading=reading, categories=kept, quantities=frozenset(quantities)
    )


def _text_pieces(
    path: Path, separator: str, reading: Reading, types: dict[str, Any], rows: int
) -> Iterator[pd.DataFrame]:
    with opened(path, reading) as lines:
        yield from pd.read_csv(lines, sep=separator, chunksize=rows, **types)


def _check_text(path: Path, reading: Reading, shown: Path, option: str) -> tuple[str, list[str]]:
    """Check the beginning of a text file; return its separator and its header."""
    separator = _separator(path, reading)
    if separator is None:
        raise DataError(f"{shown}: neither .csv, .tsv nor .parquet; set {option} if it is text")
    if len(separator) != 1:
        raise ConfigError(f"{option}: {separator!r} is not one character; give one, as in ';'")
    beginning = [cells for _, cells in islice(records(path, separator, reading), 2)]
    if not beginning:
        raise DataError(f"{shown}: the file is empty; give one with a header and rows")
    header, first = beginning[0], beginning[-1]
    later = f", or, if the header comes later, {skip_hint(reading)}" if option == SEPARATOR_KEY else ""
    _refuse_duplicates(shown, header, later)
    if len(first) > len(header):  # pandas would take the first column for row labels
        raise DataError(
            f"{shown}: {len(first)} cells in the first row under {len(header)} names; name each column{later}"
        )
    return separator, header


def _separator(path: Path, reading: Reading) -> str | None:
    return reading.separator or _SEPARATORS.get(without_compression(path).suffix.lower())


def _types(header: Sequence[str], reading: Reading, kept: frozenset[str]) -> dict[str, Any]:
    """Return pandas' options for parsing cells. low_memory=False, or a column's type may change halfway."""
    usual = _MARKS if reading.missing is None else reading.missing
    marks = {name: ["", *((reading.missing or ()) if name in kept else usual)] for name in header}
    return {
        "decimal": reading.decimal,
        "na_values": marks,
        "keep_default_na": False,
        "dtype": dict.fromkeys(kept, "str"),
        "low_memory": False,
        **_EXACT,
    }


def _refuse_duplicates(path: Path, header: list[str], later: str = "") -> None:
    duplicate = next((column for column in header if header.count(column) > 1), None)
    if duplicate is not None and not duplicate.strip():
        raise DataError(f"{path}: several columns have no name; name each{later}")
    if duplicate is not None:
        raise DataError(f"{path}: column {duplicate!r} appears twice; rename or drop one")
