"""Text files of records: decompressed, decoded, and positioned after the lines before the header."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

from besom.config.model_inputs import Reading
from besom.errors import ConfigError, DataError, one_of

UNREADABLE = (ValueError, OSError, EOFError, csv.Error, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""The exceptions of reading a damaged file; pandas' and pyarrow's own errors are ValueErrors."""

_SUFFIXES = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zip": "zip"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def without_compression(path: Path) -> Path:
    """Return a path without its compression suffix: table.csv for table.csv.gz."""
    return path.with_suffix("") if path.suffix.lower() in _SUFFIXES else path


def check_reading(reading: Reading) -> None:
    """Refuse options that cannot read any text. Raises ConfigError naming the key."""
    where = "data.source"
    for key, mark in (("decimal", reading.decimal), ("thousands", reading.thousands)):
        if mark is not None and (len(mark) != 1 or mark.isalnum() or mark in '+-"\n\r'):
            raise ConfigError(f"{where}.{key}: {mark!r} is no mark between digits; give one character, as in ','")
    if not reading.decimal.isascii():
        raise ConfigError(f"{where}.decimal: {reading.decimal!r} is not ASCII; give '.' or ','")
    if reading.thousands == reading.decimal:
        raise ConfigError(f"{where}.thousands: {reading.thousands!r} is data.source.decimal too; set that to another")
    if isinstance(reading.skip_rows, bool) or reading.skip_rows < 0:
        raise ConfigError(f"{where}.skip_rows: {reading.skip_rows} is no number of lines; give 0 or more")
    if reading.compression is not None and reading.compression not in _OPENERS:
        raise ConfigError(
            f"{where}.compression: {reading.compression!r} is unknown; {one_of(reading.compression, _OPENERS)}"
        )
    if reading.encoding is not None:
        _check_encoding(reading.encoding)


def _check_encoding(encoding: str) -> None:
    try:
        "".encode(encoding)  # refuses codecs that are not text encodings, such as rot13
    except LookupError:
        raise ConfigError(
            f"data.source.encoding: {encoding!r} is unknown to Python; give one such as utf-8, cp1252 or utf-16"
        ) from None


@contextmanager
def opened(path: Path, reading: Reading) -> Iterator[TextIO]:
    """Open a file for `csv.reader` or pandas, positioned at its header."""
    compression = _SUFFIXES.get(path.suffix.lower()) if reading.compression is None else reading.compression
    with ExitStack() as stack:
        binary = stack.enter_context(_OPENERS[compression](path) if compression else path.open("rb"))
        text = io.TextIOWrapper(binary, encoding=_codec(reading), newline="")
        stack.enter_context(text)
        for _ in range(reading.skip_rows):
            text.readline()
        yield text


def _open_zip(path: Path) -> IO[bytes]:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if len(names) != 1:
            raise DataError(f"{path}: the archive holds {len(names)} files; give one that holds a table alone")
        return archive.open(names[0])


_OPENERS: Mapping[str, Callable[[Path], Any]] = {
    "gzip": gzip.open,
    "bz2": bz2.open,
    "xz": lzma.open,
    "zip": _open_zip,
}


def _codec(reading: Reading) -> str:
    name = codecs.lookup(reading.encoding or "utf-8").name
    return "utf-8-sig" if name == "utf-8" else name  # with a byte order mark or without


def not_decoded(path: Path, reading: Reading) -> str:
    """Return the message for a file whose bytes are not text in its encoding."""
    wrong = (reading.encoding or "UTF-8").upper()
    likely = "cp1252"
    if reading.encoding is None and path.is_file():
        with path.open("rb") as file:
            likely = "utf-16" if file.read(2) in _UTF16 else likely
    return f"not {wrong} text; save it as UTF-8, or name its encoding, as in data.source.encoding={likely}"


def records(path: Path, separator: str, reading: Reading) -> Iterator[tuple[int, list[str]]]:
    """Yield the records as pandas sees them, the header first, each with its first line number in the file."""
    with opened(path, reading) as lines:
        reader = csv.reader(lines, delimiter=separator)
        begins = 1
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield reading.skip_rows + begins, cells
            begins = reader.line_num + 1
