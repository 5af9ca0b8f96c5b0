"""Writers of predictions, atomic: CSV to stdout or a file, Parquet, or an array."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from besom.errors import ConfigError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetWriter

SUFFIXES = (".csv", ".parquet", ".npy")


class Answers(Protocol):
    """A writer of predictions in batches."""

    def add(self, frame: pd.DataFrame, values: np.ndarray) -> None:
        """Add rows: as columns, and as numbers [n] or, for classes, the probability of each [n, classes]."""

    def close(self) -> None:
        """Write the remaining data."""


@contextmanager
def answers_to(output: Path | None) -> Iterator[Answers]:
    """Yield a writer of predictions to a file, in the format of its suffix, or to stdout (CSV).

    They are written to a temporary file that replaces the output at the end; after an error nothing has changed.
    Raises ConfigError for an unknown suffix, and a file that cannot be written.
    """
    if output is not None and output.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"-o {output}: its suffix is none of {', '.join(SUFFIXES)}; choose one of them")
    suffix = output.suffix.lower() if output else ".csv"
    path = _temporary_file(output, suffix)
    try:
        with path.open("wb") as file:
            answers = _KINDS[suffix](file)
            yield answers
            answers.close()
        if output is None:
            with path.open(encoding="utf-8", newline="") as text:
                shutil.copyfileobj(text, sys.stdout)
        else:
            path.chmod(0o666 & ~_umask())  # a temporary file is readable by its owner only
            path.replace(output)
    finally:
        path.unlink(missing_ok=True)


def _temporary_file(output: Path | None, suffix: str) -> Path:
    """Create the temporary file, beside the output."""
    try:
        if output is not None and output.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        handle, name = tempfile.mkstemp(prefix=".besom-", suffix=suffix, dir=output.parent if output else None)
    except OSError as error:
        raise ConfigError(f"-o {output}: cannot be written ({error.strerror}); choose another file") from error
    os.close(handle)
    return Path(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class _Csv:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._begun = False

    def add(self, frame: pd.DataFrame, values: np.ndarray) -> None:
        frame.to_csv(self._file, index=False, header=not self._begun, lineterminator="\n")
        self._begun = True

    def close(self) -> None:
        self._file.flush()


class _Parquet:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._writer: ParquetWriter | None = None

    def add(self, frame: pd.DataFrame, values: np.ndarray) -> None:
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        if self._writer is None:
            self._writer = ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Array:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._parts: list[np.ndarray] = []

    def add(self, frame: pd.DataFrame, values: np.ndarray) -> None:
        self._parts.append(values)

    def close(self) -> None:
        np.save(self._file, np.concatenate(self._parts), allow_pickle=False)


_KINDS: Mapping[str, Callable[[IO[bytes]], Answers]] = {".csv": _Csv, ".parquet": _Parquet, ".npy": _Array}
