"""Human notations of numbers and missing values, which a program reads as text."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pandas as pd

from besom.config.model_inputs import Reading
from besom.data.tables.numerals import number_pattern
from besom.data.tables.table import Table, setting

_PLAIN = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_COMMA = r"(?:\d+,\d*|,\d+)(?:[eE][+-]?\d+)?"
_GROUPS = r"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+"
_LAKHS = r"[1-9]\d?(?:,\d\d)+,\d{3}"
_THOUSANDS = {mark: _GROUPS.format(mark=re.escape(mark)) for mark in ",.' _\u00a0\u202f\u2019"}
_ANY = "|".join(
    (
        *(rf"{text}(?:[.,]\d+)?" for mark, text in _THOUSANDS.items()),
        rf"{_LAKHS}(?:\.\d+)?",
        _COMMA,
        _PLAIN,
    )
)
_MONEY = "[$€£¥₹]"
_NUMBER = re.compile(
    rf"[-+\u2212]?\s*{_MONEY}?\s*[-+\u2212]?(?:0[xXoObB][0-9a-fA-F_]+|{_ANY})\s*(?:[%‰]|{_MONEY})?-?|\({_MONEY}?(?:{_ANY})\)"
)
_MARK = re.compile(r"[\W_]*")


_READINGS = (
    (",", None), (".", ","), (".", " "), (".", "'"), (".", "_"), (".", "\u00a0"), (".", "\u202f"), (".", "\u2019"),
    (",", "."), (",", " "), (",", "'"), (",", "_"), (",", "\u00a0"), (",", "\u202f"), (",", "\u2019"),
)  # fmt: skip
"""Pairs of a decimal mark and a thousands separator, as used in different countries."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """The notations of the cells of a column of text, as masks over the rows.

    plain   numbers in the file's declared notation
    odd     numbers in another human notation: with a decimal comma, marked thousands, %, $, in hexadecimal
    marks   only punctuation, such as ? and -, which may mark a missing value
    """

    text: pd.Series
    plain: pd.Series
    odd: pd.Series
    marks: pd.Series

    @classmethod
    def of(cls, values: pd.Series, reading: Reading) -> Cells:
        """Classify the cells of a column without missing values."""
        text = values.astype(str)

        def matching(pattern: re.Pattern[str]) -> pd.Series:
            return text.map({cell: pattern.fullmatch(cell.strip()) is not None for cell in text.unique()}).astype(bool)

        is_plain = matching(number_pattern(reading))
        return cls(text=text, plain=is_plain, odd=matching(_NUMBER) & ~is_plain, marks=matching(_MARK))

    @property
    def numbers(self) -> pd.Series:
        """The rows that a person would read as numbers."""
        return self.plain | self.odd


def remedy(table: Table, column: str, cells: Cells, index: int) -> str:
    """Return the remedy for a cell that is not a plain number: the keys that would read it, if there are any."""
    cell = cells.text.iloc[index]
    keep = f"{setting('categories', [column])} keeps the column as a category"
    if cells.odd.iloc[index]:
        readings = _readings(cell, cells, table.reading) if table.separator is not None else []
        keys = " or ".join(" ".join(setting(*key) for key in keys) for keys in readings)
        return f"; {'set ' + keys if keys else 'write it as a plain number'}, or {keep}"
    count = int((cells.text == cell).sum())
    what = " among numbers" + (f" ({count} such)" if count > 1 else "")
    if table.separator is None:
        return f"{what}; correct it, or {keep}"
    return f"{what}; correct it, or set {setting('missing', [cell])} if it marks a missing value, or {keep}"


def _readings(cell: str, cells: Cells, reading: Reading) -> list[list[tuple[str, str]]]:
    """Return the keys that would read all numbers of a column or, if there are none, those for this cell."""
    numbers = cells.text[cells.numbers.to_numpy()].unique()
    candidates = {}
    for decimal, thousands in _READINGS:
        pattern = number_pattern(replace(reading, decimal=decimal, thousands=thousands))
        if pattern.fullmatch(cell):
            keys = [("decimal", decimal)] if decimal != reading.decimal else []
            keys += [("thousands", thousands)] if thousands not in (None, reading.thousands) else []
            candidates[tuple(keys)] = all(pattern.fullmatch(number) for number in numbers)
    best = [keys for keys, fits in candidates.items() if fits] or list(candidates)
    fewest = min(map(len, best), default=0)
    return [list(keys) for keys in best if len(keys) == fewest > 0]
