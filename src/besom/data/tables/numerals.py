"""Numbers in the cells of a text file, also with marked thousands: their pattern, and their values."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from besom.config.model_inputs import Reading


def with_numbers(frame: pd.DataFrame, reading: Reading, kept: frozenset[str]) -> tuple[pd.DataFrame, list[str]]:
    """Convert columns of numeric text to numbers; also return the columns with marked thousands.

    pandas' own option removes the mark at any position: 15,9 would become 159. This also converts text that pandas
    leaves, such as whole numbers of which some exceed the largest int64 and some are below 0.
    """
    converted: dict[str, pd.Series] = {}
    quantities = []
    number = number_pattern(reading)
    for name in frame.columns:
        cells = frame[name].dropna()
        if name in kept or not pd.api.types.is_string_dtype(cells.dtype) or not len(cells):
            continue
        if not all(isinstance(cell, str) and number.fullmatch(cell) for cell in cells):
            continue
        if reading.thousands is not None and cells.str.contains(reading.thousands, regex=False).any():
            quantities.append(str(name))
            cells = cells.str.replace(reading.thousands, "", regex=False)
        cells = cells.str.replace(reading.decimal, ".", regex=False)
        converted[name] = _parsed(cells).reindex(frame.index)
    return frame.assign(**converted), quantities


def number_pattern(reading: Reading) -> re.Pattern[str]:
    """Return the pattern of a number with optional thousands marks: in threes, or as 12,34,567 in India."""
    mark, point = re.escape(reading.thousands or ""), re.escape(reading.decimal)
    whole = rf"[0-9]{{1,3}}(?:{mark}[0-9]{{2,3}})*{mark}[0-9]{{3}}|[0-9]+" if mark else "[0-9]+"
    return re.compile(rf"\s*[+-]?(?:(?:{whole})(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")


def _parsed(cells: pd.Series) -> pd.Series:
    whole = all(re.fullmatch(r"\s*[+-]?[0-9]{1,300}\s*", cell) for cell in cells)  # a longer one is not a finite float
    if not whole:
        return pd.Series([float(cell) for cell in cells], index=cells.index, dtype="float64")
    values = [int(cell) for cell in cells]
    fits = min(values) >= -(2**63) and max(values) < 2**63
    return pd.Series(np.array(values, dtype=object), index=cells.index, dtype="Int64" if fits else "object")
