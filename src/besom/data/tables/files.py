"""Reading a user's CSV or Parquet file, and saying where in it something is wrong."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from besom.config.model_inputs import Reading
from besom.data.tables.numerals import with_numbers
from besom.data.tables.parquet import parquet_frame, parquet_pieces
from besom.data.tables.text import UNREADABLE, not_decoded, opened, records, without_compression
from besom.errors import ConfigError, DataError, in_one_line

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")
_KEY, _FLAG = "data.source.separator", "--separator"  # how to name a separator: of a file to train on, of a new one

# What pandas takes for a missing value, by its documentation. Named here, because it has no say in a category.
_MARKS = (
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip

# pandas reads floats to the last bit since 3.1, and says of the switch that it had before that it is deprecated.
_EXACT: dict[str, Any] = {}
if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):
    _EXACT = {"float_precision": "round_trip"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A file's rows as a frame numbered from 0; `separator` is None for Parquet.

    new         whether they are what a trained model is asked about, which takes all of its columns
    first       how many rows of the file come before these
    file        where the text lies, if `path` is but what to call it
    reading     how that text is read
    categories  the columns that are text, whatever they look like
    quantities  the columns whose numbers are written with marked thousands, as no class is
    rows        where each row lies in the file, from 0, if some of it were left out
    told        what was left out, in lines for the user
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
    told: tuple[str, ...] = ()

    def refusal(self, index: int, what: str) -> DataError:
        """Return the error that says what is wrong in row `index` (0-based).

        Of a file to train on, the row is the line of the text, whose header is line 1, or the record's number in
        Parquet, from 1. Of what a trained model is asked about, it is what the answer calls it, from 0, whatever it
        came in; the line of a text is told besides.
        """
        record, row = self._record(index), self._place(index)
        if self.new:
            line = "" if record is None else f" (line {record[0]})"
            return DataError(f"{self.path}: row {row}{line}, {what}")
        return DataError(f"{self.path}: row {row + 1 if record is None else record[0]}, {what}")

    def written(self, index: int, column: str) -> str:
        """Return what a cell of a text file holds, even where that means that it is missing; "" for Parquet."""
        record = self._record(index)
        place = list(self.frame.columns).index(column)
        return record[1][place].strip() if record is not None and place < len(record[1]) else ""

    def _place(self, index: int) -> int:
        return self.first + index if self.rows is None else int(self.rows[index])

    def _record(self, index: int) -> tuple[int, list[str]] | None:
        """The line and the cells of a row in a text file; None of a row that has no text."""
        if self.separator is None:
            return None
        found = records(self.file or self.path, self.separator, self.reading)
        return next(islice(found, self._place(index) + 1, None))  # record 0 is the header

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
            elif not self.new and column in self.frame.iloc[0].astype(str).tolist():
                hint = f"the header seems to come later; {_skip(self.reading)}"
            listed = ", ".join(there[:20]) + (", …" if len(there) > 20 else "")
            raise DataError(f"{self.path}: no column {column!r} among {listed}; {hint}")

    def require_complete(self, columns: list[str]) -> None:
        """Raise DataError at the first missing value in `columns`, counting them all in a file to train on."""
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
        """Return a column of numbers or booleans as float64 [rows]; DataError if one is not finite in float32."""
        try:
            values = self.frame[column].to_numpy(dtype=np.float64, copy=True)
        except OverflowError:  # a whole number beyond what a float can be
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
    """Return the table without the rows in which one of `columns` is missing, and tell of them.

    Raises DataError if none is left.
    """
    missing = table.frame[columns].isna()
    rows = np.flatnonzero(~missing.any(axis=1).to_numpy())
    frame = table.frame.iloc[rows].reset_index(drop=True)
    for column in columns:
        values = frame[column]
        plain = getattr(values.dtype, "numpy_dtype", None)  # of Int64, Float64 and boolean, which can be missing
        frame[column] = values.infer_objects() if plain is None else values.to_numpy(dtype=plain)
    left_out = len(table.frame) - len(rows)
    if not left_out:
        return replace(table, frame=frame)
    counts = ", ".join(f"{column!r} {count}" for column, count in missing.sum().items() if count)
    what = f"{left_out} of {len(table.frame)} rows for a missing value (in {counts})"
    if not len(rows):
        raise DataError(f"{table.path}: data.source.drop_missing leaves out {what}; leave columns out instead")
    return replace(table, frame=frame, rows=rows.tolist(), told=(*table.told, f"left out: {what}"))


def setting(key: str, value: object) -> str:
    """Return the override that sets a key of the source, as a shell takes it."""
    return f"'data.source.{key}={json.dumps(value, ensure_ascii=False)}'"


def read_table(
    path: Path, reading: Reading | None = None, *, text: Iterable[str] = (), drop_missing: bool = False
) -> Table:
    """Read a CSV or TSV (or any divided text, given its separator) or Parquet file, as its suffix says.

    The columns in `text` are read as text even if they look like numbers. `drop_missing` is for a table whose rows
    with a missing value will be dropped: whole numbers and booleans beside one stay what they are.
    Raises DataError if the file is missing, empty, unreadable, or has a column twice.
    """
    reading = reading or Reading()
    with _refusing(path, reading):
        if path.suffix.lower() in PARQUET:
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
    """Yield the rows that a trained model is asked about, so many at a time, from a file like `read_table`'s.

    `shown` is what errors call the file. Raises DataError as `read_table` does.
    """
    shown, reading, kept = shown or path, reading or Reading(), frozenset(text)
    with _refusing(path, reading, shown):
        if path.suffix.lower() in PARQUET:
            divider, frames = None, parquet_pieces(path, rows)
        else:
            divider, header = _check_text(path, reading, shown, _FLAG)
            frames = _text_pieces(path, divider, reading, _types(header, reading, kept), rows)
    first = 0
    while True:
        with _refusing(path, reading, shown):
            frame = next(frames, None)
        if frame is None or not len(frame):
            break
        _refuse_twins(shown, list(frame.columns))
        if divider is not None:
            frame, _ = with_numbers(frame, reading, kept)
        yield Table(
            path=shown, frame=frame, separator=divider, new=True, first=first, file=path, reading=reading,
            categories=kept,
        )  # fmt: skip
        first += len(frame)
    if not first:
        raise _no_rows(shown)


def opening(path: Path, reading: Reading) -> set[str]:
    """Return the cells of the first record of a text file; nothing of any other, or of one that cannot be read."""
    separator = _separator(path, reading)
    if path.suffix.lower() in PARQUET or separator is None:
        return set()
    try:
        return set(next(records(path, separator, reading), (0, []))[1])
    except UNREADABLE:
        return set()  # whoever reads it will say so


@contextmanager
def _refusing(path: Path, reading: Reading, shown: Path | None = None) -> Iterator[None]:
    """Turn what comes of reading a file into a DataError of one line."""
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
    _refuse_twins(path, list(frame.columns))
    told = ("left out: the row labels, which have no name",) if has_labels else ()
    return Table(path=path, frame=frame, separator=None, reading=reading, categories=kept, told=told)


def _read_text(path: Path, reading: Reading, kept: frozenset[str], *, drop_missing: bool) -> Table:
    divider, header = _check_text(path, reading, path, _KEY)
    exact: dict[str, Any] = {"dtype_backend": "numpy_nullable"} if drop_missing else {}
    with opened(path, reading) as lines:
        frame = pd.read_csv(lines, sep=divider, **_types(header, reading, kept), **exact)
    frame, quantities = with_numbers(frame, reading, kept)
    return Table(
        path=path, frame=frame, separator=divider, reading=reading, categories=kept, quantities=frozenset(quantities)
    )


def _text_pieces(
    path: Path, divider: str, reading: Reading, types: dict[str, Any], rows: int
) -> Iterator[pd.DataFrame]:
    with opened(path, reading) as lines:
        yield from pd.read_csv(lines, sep=divider, chunksize=rows, **types)


def _check_text(path: Path, reading: Reading, shown: Path, option: str) -> tuple[str, list[str]]:
    """Return what divides the cells of a text file whose opening is in order, and its header."""
    separator = _separator(path, reading)
    if separator is None:
        raise DataError(f"{shown}: neither .csv, .tsv nor .parquet; set {option} if it is text")
    if len(separator) != 1:
        raise ConfigError(f"{option}: {separator!r} is not one character; give one, as in ';'")
    opening = [cells for _, cells in islice(records(path, separator, reading), 2)]
    if not opening:
        raise DataError(f"{shown}: the file is empty; give one with a header and rows")
    header, first = opening[0], opening[-1]
    later = f", or, if the header comes later, {_skip(reading)}" if option == _KEY else ""
    _refuse_twins(shown, header, later)
    if len(first) > len(header):  # pandas would take the first column for row labels
        raise DataError(
            f"{shown}: {len(first)} cells in the first row under {len(header)} names; name each column{later}"
        )
    return separator, header


def _separator(path: Path, reading: Reading) -> str | None:
    return reading.separator or SEPARATORS.get(without_compression(path).suffix.lower())


def _skip(reading: Reading) -> str:
    return f"set data.source.skip_rows={reading.skip_rows + 1} (the lines before it)"


def _types(header: Sequence[str], reading: Reading, kept: frozenset[str]) -> dict[str, Any]:
    """How pandas turns cells into values. A whole column at once (low_memory=False), or its type may change halfway."""
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


def _refuse_twins(path: Path, header: list[str], later: str = "") -> None:
    twin = next((column for column in header if header.count(column) > 1), None)
    if twin is not None and not twin.strip():
        raise DataError(f"{path}: several columns have no name; name each{later}")
    if twin is not None:
        raise DataError(f"{path}: column {twin!r} appears twice; rename or drop one")
