"""Parquet files as frames, at once or in pieces, with a named index among the columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def parquet_frame(path: Path) -> tuple[pd.DataFrame, bool]:
    """Return the rows of a file, numbered from 0, and whether unnamed row labels were left out."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        content = file.read()
    frame = _named(content, content.schema.pandas_metadata, 0)
    return frame.reset_index(drop=True), not isinstance(frame.index, pd.RangeIndex)


def parquet_pieces(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Yield the same rows in pieces of `rows`, each numbered from 0."""
    from pyarrow.parquet import ParquetFile

    first = 0
    with ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=rows):
            frame = _named(batch, file.schema_arrow.pandas_metadata, first)
            yield frame.reset_index(drop=True)
            first += len(frame)


def _named(rows: Any, metadata: dict[str, Any] | None, first: int) -> pd.DataFrame:
    """Return the rows of an Arrow table, from row `first` of its file, with its named index among the columns."""
    frame: pd.DataFrame = rows.to_pandas(integer_object_nulls=True)
    for index in (metadata or {}).get("index_columns", []):
        if isinstance(index, dict) and index["name"] is not None:  # pyarrow drops it from a piece
            start = index["start"] + first * index["step"]
            frame = frame.reset_index(drop=True)
            frame[index["name"]] = np.arange(start, start + len(frame) * index["step"], index["step"])
    named = [name for name in frame.index.names if name is not None]
    frame = frame.reset_index(level=named) if named else frame
    frame.columns = frame.columns.map(str)
    return frame
