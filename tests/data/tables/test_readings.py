"""The reading of a table's text: as its author meant it, or refused with row and column."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from besom.config.model_inputs import Inputs, Reading
from besom.data import InMemoryDataModule, Task
from besom.data.tables.columns import encode_features
from besom.data.tables.files import read_pieces
from besom.data.tables.inspection import text_columns
from besom.data.tables.source import csv
from besom.errors import ConfigError, DataError
from besom.predict.inputs import table_pieces

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write lines to a file of that name and return its path as a string."""

    def write_file(*lines: str, name: str = "train.csv", encoding: str = "utf-8") -> str:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding=encoding)
        return str(path)

    return write_file


def column(*cells: str, separator: str = ";") -> list[str]:
    """The lines of a table whose column `a` holds these cells, over and over, beside a target that is a number."""
    return [f"a{separator}y", *(f"{cell}{separator}{row / 2}" for row, cell in enumerate(cells * 4))]


ODD = {
    ("15,9", "19,9"): """row 2, column 'a' holds '15,9'; set 'data.source.decimal=","', or""",
    ("1", "1,5"): """row 3, column 'a' holds '1,5'; set 'data.source.decimal=","', or""",
    ("3,000", "5,000"): """holds '3,000'; set 'data.source.decimal=","' or 'data.source.thousands=","', or""",
    ("3,000", "12,000,000"): """row 2, column 'a' holds '3,000'; set 'data.source.thousands=","', or""",
    ("1,234.5", "7"): """holds '1,234.5'; set 'data.source.thousands=","', or""",
    ("12,34,567", "7"): """holds '12,34,567'; set 'data.source.thousands=","', or""",
    ("1.234.567", "7"): """holds '1.234.567'; set 'data.source.decimal=","' 'data.source.thousands="."', or""",
    ("1.234,5", "7"): """holds '1.234,5'; set 'data.source.decimal=","' 'data.source.thousands="."', or""",
    ("1'234.5", "7"): """holds "1'234.5"; set 'data.source.thousands="'"', or""",
    ("1\u202f234", "7"): """holds '1\\u202f234'; set 'data.source.thousands="\u202f"', or""",
    ("1 234,5", "7"): """holds '1 234,5'; set 'data.source.decimal=","' 'data.source.thousands=" "', or""",
    ("12%", "7.5 %"): "row 2, column 'a' holds '12%'; write it as a plain number, or",
    ("0x1F", "0x20"): "row 2, column 'a' holds '0x1F'; write it as a plain number, or",
    ("$1,200.50", "$3"): "row 2, column 'a' holds '$1,200.50'; write it as a plain number, or",
    ("(120)", "7"): "row 2, column 'a' holds '(120)'; write it as a plain number, or",
    ("\u221212", "7"): "holds '\u221212'; write it as a plain number, or",
    ("?", "1", "2"): """row 2, column 'a' holds '?' among numbers (4 such); correct it, or set 'data.s""",
    ("1", " ?", "2"): """holds ' ?' among numbers (4 such); correct it, or set 'data.source.missing=[" ?"]'""",
    ("1", " ", "2", "  "): "row 3, column 'a' holds ' ' among numbers (4 such); correct it, or set",
    ("1", "-", "*", "."): "row 3, column 'a' holds '-' among numbers (4 such); correct it, or set",
    ("0.5", "unknown", "1.5"): "row 3, column 'a' holds 'unknown' among numbers (4 such); correct it, or set",
}  # fmt: skip


@pytest.mark.parametrize("cells", ODD, ids=str)
def test_numbers_as_a_person_writes_them_are_refused_with_the_keys_that_read_them(write: Write, cells: tuple[str, ...]):
    with pytest.raises(DataError) as caught:
        csv(write(*column(*cells)), "y", separator=";")
    assert ODD[cells] in str(caught.value)
    assert """'data.source.categories=["a"]' keeps the column as a category""" in str(caught.value)
    assert csv(write(*column(*cells)), "y", separator=";", categories=["a"]).x.shape[1] == len(cells)


@pytest.mark.parametrize(
    "cells", [("1a", "2", "b3"), ("S", "M", "38", "40"), ("+", "-"), ("1.2.3", "1.10"), ("other", "1", "2")]
)
def test_a_category_may_look_like_a_number_here_and_there(write: Write, cells: tuple[str, ...]):
    assert csv(write(*column(*cells)), "y", separator=";").x.shape[1] == len(cells)


def test_a_target_that_is_nearly_all_numbers_is_not_made_classes(write: Write):
    lines = ["x,y", *(f'{row},"{row % 7 + 1},000"' for row in range(60))]
    with pytest.raises(DataError, match="row 2, column 'y' holds '1,000'; set"):
        csv(write(*lines), "y")
    source = csv(write(*lines), "y", thousands=",")
    assert (source.task, source.y[:3].tolist()) == (Task.REGRESSION, [1000, 2000, 3000])


def test_a_mark_of_thousands_at_another_place_is_not_passed_over(write: Write):
    with pytest.raises(DataError, match="row 3, column 'a' holds '15,9'"):
        csv(write(*column("1,000", "15,9")), "y", separator=";", thousands=",")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"decimal": ",", "thousands": ","},
            "data.source.thousands: ',' is data.source.decimal too; set that to another",
        ),
        ({"decimal": ""}, "data.source.decimal: '' is no mark between digits"),
        ({"thousands": "0"}, "data.source.thousands: '0' is no mark between digits"),
        ({"decimal": "\u066b"}, "data.source.decimal: '\u066b' is not ASCII"),
        ({"encoding": "utf-9"}, "data.source.encoding: 'utf-9' is unknown to Python; give one such as utf-8"),
        ({"encoding": "rot13"}, "data.source.encoding: 'rot13' is unknown to Python"),
        ({"compression": "gz"}, "data.source.compression: 'gz' is unknown; did you mean gzip?"),
        ({"skip_rows": -1}, "data.source.skip_rows: -1 is no number of lines"),
    ],
)
def test_a_key_that_reads_no_text_is_refused_by_name(write: Write, keys: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as caught:
        csv(write("a,y", "1,2"), "y", **keys)
    assert message in str(caught.value)


# What is written, and what is read.

WHOLE = st.integers(-(2**53), 2**53) | st.integers(-999, 99_999)
REAL = st.floats(-1e30, 1e30, allow_subnormal=False) | st.floats(-1000, 1000, allow_subnormal=False)
NUMBERS = st.lists(WHOLE, min_size=2, max_size=8) | st.lists(REAL, min_size=2, max_size=8)
STYLES = st.sampled_from([(".", None), (",", None), (".", ","), (".", "'"), (",", "."), (",", " "), (",", "\u00a0")])


def as_written(number: float, decimal: str, thousands: str | None) -> str:
    plain = f"{number:,}" if isinstance(number, int) else repr(number)
    marks = {",": thousands or "", ".": decimal}
    return "".join(marks.get(sign, sign) for sign in plain)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NUMBERS, STYLES, st.sampled_from([",", ";", "\t", "|"]), st.sampled_from([None, "?", "-", "n/k", "-999.25"]))
def test_numbers_that_are_written_in_any_style_are_read_as_they_were(
    tmp_path: Path, numbers: list[float], style: tuple[str, str | None], separator: str, missing: str | None
):
    cells = [as_written(one, *style) for one in numbers]
    rows = cells if missing is None else [cells[0], missing, *cells[1:]]
    path = tmp_path / "t.csv"
    pd.DataFrame({"a": rows, "y": [str(row) for row in range(len(rows))]}).to_csv(path, sep=separator, index=False)
    keys: dict[str, Any] = {"separator": separator, "decimal": style[0], "thousands": style[1]}
    if missing is not None:
        keys |= {"missing": [missing], "drop_missing": True}
    kept = [one for one, cell in zip(numbers, cells, strict=True) if cell != missing]
    source = csv(str(path), "y", task="regression", **keys)
    assert source.x[:, 0].tolist() == kept
    # And unless that is said, they are read as they were, or refused. That 1.234 is meant as 1234, nobody can know.
    if style != (",", ".") and missing is None:
        with suppress(DataError):
            assert csv(str(path), "y", task="regression", separator=separator).x.tolist() == source.x.tolist()


CELLS = st.lists(
    st.tuples(
        st.sampled_from(["1,5", "2", "1.234", "1.234,75", "-3"]),
        st.sampled_from(["NA", "007", "7", "x"]),
        st.sampled_from(["True", "False"]),
        st.sampled_from(["b", "7", "1,5"]),
    ),
    min_size=3,
    max_size=9,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CELLS, st.integers(1, 4))
def test_a_new_file_is_read_as_the_training_file_was_in_pieces_of_any_size(
    tmp_path: Path, cells: list[tuple[str, ...]], rows: int
):
    lines = ["n;code;flag;text;y", *(";".join((*row, str(i / 2).replace(".", ","))) for i, row in enumerate(cells * 2))]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = csv(
        str(path), "y", task="regression", separator=";", decimal=",", thousands=".", categories=["code", "text"]
    )
    inputs = Inputs.of_json(source.inputs.to_json(), source.feature_names)
    assert inputs == source.inputs
    pieces = table_pieces(path, inputs, source.spec, rows=rows, separator=None, shown=path, warn=pytest.fail)
    x, truth = zip(*((piece.x, piece.truth) for piece in pieces), strict=True)
    assert torch.equal(torch.cat(x), source.x)
    assert torch.cat(truth).tolist() == source.y.tolist()


# Precision.


@pytest.mark.parametrize("base", [2**53, 2**60, 2**64, -(2**70)])
def test_classes_stay_what_they_are_however_large(write: Write, base: int):
    source = csv(write("x,y", *(f"{row / 7},{base + row % 4}" for row in range(40))), "y")
    assert source.class_names == tuple(str(base + one) for one in range(4))
    assert source.y[:4].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("base", [1_700_000_000, 1_700_000_000_000_000])
def test_large_numbers_that_differ_little_are_told_apart_once_they_are_scaled(write: Write, base: int):
    path = write("when,y", *(f"{base + row},{row / 2}" for row in range(80)))
    for scaling in ("standard", "minmax"):
        data = InMemoryDataModule(csv(path, "y"), scaling=scaling, val_fraction=0, test_fraction=0)
        x = data.train_dataloader().x
        assert (x.dtype, len(x.unique())) == (torch.float32, 80)
    data = InMemoryDataModule(csv(path, "y"), scaling="none")
    with pytest.raises(
        DataError, match=r"train: column 'when' holds .* different values, of which data.scaling leaves"
    ):
        data.train_dataloader()


def test_what_32_bit_floats_lose_of_a_target_is_refused(write: Write):
    path = write("x,when", *(f"{row},{1_700_000_000 + row}" for row in range(80)))
    with pytest.raises(
        DataError, match=r"column 'when' holds 80 different values, of which 32-bit .* keep 2; subtract"
    ):
        csv(path, "when")


def test_what_64_bit_floats_lose_of_a_feature_is_refused(write: Write):
    path = write("id,y", *(f"{2**60 + row},{row / 2}" for row in range(9)))
    with pytest.raises(DataError, match=rf"column 'id' holds {2**60} and {2**60 + 1}, which 64-bit floats cannot tell"):
        csv(path, "y")


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_whole_number_beyond_all_floats_is_refused_with_its_row(write: Write, digits: int):
    with pytest.raises(DataError, match=r"row 3, column 'a' holds .*, which is no finite 32-bit number"):
        csv(write("a,y", "1,0.5", f"{'9' * digits},1.5"), "y")


def test_marks_of_missing_values_are_taken_with_their_spaces(write: Write):
    path = write(*column("1", " ?", " "))
    source = csv(path, "y", separator=";", missing=[" ?", " "], drop_missing=True)
    assert source.x.tolist() == [[1]] * 4


def test_a_column_that_differs_by_rounding_alone_is_constant(write: Write):
    path = write("a,b,y", *(f"{0.1 + 0.2 if row % 2 else 0.3!r},{row},{row / 2}" for row in range(9)))
    data = InMemoryDataModule(csv(path, "y"), val_fraction=0, test_fraction=0)
    assert data.train_dataloader().x[:, 0].abs().max() < 1e-6


# Missing values, categories, what is told.


def test_text_that_is_read_as_missing_is_named_with_the_key_that_keeps_it(write: Write):
    path = write("country,y", *(f"{('NA', 'ZA', 'BW')[row % 3]},{row / 2}" for row in range(9)))
    with pytest.raises(DataError) as caught:
        csv(path, "y")
    assert "row 2, column 'country' holds 'NA', which is read as missing (3 missing in all); " in str(caught.value)
    assert """'data.source.categories=["country"]' keeps it as a category""" in str(caught.value)
    for keys in ({"categories": ["country"]}, {"missing": []}):
        source = csv(path, "y", **keys)
        assert source.feature_names == ("country=BW", "country=NA", "country=ZA")
    found = read_pieces(Path(path), source.reading, rows=2, text=text_columns(source.columns))
    assert np.concatenate([encode_features(piece, source.columns) for piece in found]).tolist() == source.x.tolist()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_with_a_missing_value_can_be_left_out_and_the_others_stay_what_they_are(tmp_path: Path, form: str):
    ids = [2**53 + row % 2 for row in range(12)]
    frame = pd.DataFrame({"n": range(12), "flag": [True, False] * 6, "y": ids}).astype(
        {"n": "Int64", "flag": "boolean", "y": "Int64"}
    )
    frame.loc[2, "n"] = frame.loc[3, "flag"] = frame.loc[5, "y"] = pd.NA
    path = tmp_path / f"t.{form}"
    frame.to_csv(path, index=False) if form == "csv" else frame.to_parquet(path)
    source = csv(str(path), "y", drop_missing=True)
    kept = [row for row in range(12) if row not in (2, 3, 5)]
    assert source.x.tolist() == [[row, row % 2 == 0] for row in kept]
    assert source.class_names == (str(2**53), str(2**53 + 1))
    assert "left out: 3 of 12 rows for a missing value (in 'n' 1, 'flag' 1, 'y' 1)" in source.notes
    with pytest.raises(DataError, match="row 4, column 'n' is missing" if form == "csv" else "row 3, column 'n' is m"):
        csv(str(path), "y")


def test_rows_are_counted_in_the_file_after_some_were_left_out(write: Write):
    path = write("a,y", "1,2.5", ",2", "1e39,3", "4,5")
    with pytest.raises(DataError, match="row 4, column 'a' holds 1e"):
        csv(path, "y", drop_missing=True)
    with pytest.raises(DataError, match="drop_missing leaves out 2 of 2 rows for a missing value"):
        csv(write("a,y", ",2", ",1"), "y", drop_missing=True)


def test_what_was_decided_of_the_columns_is_told_unless_all_are_numbers(write: Write):
    assert csv(write("a,b,y", *(f"{row},{row},{row / 2}" for row in range(9))), "y").notes == ()
    lines = [f"{row},{'ab'[row % 2]},{row % 3 == 0},n{row},{'xyz'[row % 2 if row else 2]}" for row in range(9)]
    source = csv(write("n,t,flag,note,y", *lines), "y", features=["flag", "n", "t"])
    assert source.notes == (
        "columns: numbers n; booleans flag; categories t (2 values); left out note; target y (3 classes)",
        "class 'z' of column 'y' has one row, which trains: nothing tells how well it is found",
    )


def test_a_numeric_column_becomes_a_category_that_way_in_parquet_too(tmp_path: Path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"zip": [8001, 3000, 8001, 3000], "y": [0.5, 1.5, 2.5, 3.5]}).to_parquet(path)
    source = csv(str(path), "y", categories=["zip"])
    assert source.feature_names == ("zip=3000", "zip=8001")
    with pytest.raises(DataError, match="no column 'zipp' among zip, y; did you mean 'zip'"):
        csv(str(path), "y", categories=["zipp"])


# Files.


@pytest.mark.parametrize("form", ["csv.gz", "csv.bz2", "csv.xz", "csv.zip"])
def test_a_compressed_file_is_read_as_what_it_holds(write: Write, tmp_path: Path, form: str):
    plain = csv(write("a,y", "1,2.5", "2,3.5"), "y")
    content = (tmp_path / "train.csv").read_bytes()
    path = tmp_path / f"train.{form}"
    if form.endswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("train.csv", content)
    else:
        path.write_bytes({"gz": gzip, "bz2": bz2, "xz": lzma}[form.partition(".")[2]].compress(content))
    source = csv(str(path), "y")
    assert (source.name, source.x.tolist()) == (plain.name, plain.x.tolist())
    (tmp_path / "bare").write_bytes(path.read_bytes())
    how = {"gz": "gzip"}.get(form.partition(".")[2], form.partition(".")[2])
    assert csv(str(tmp_path / "bare"), "y", compression=how, separator=",").x.tolist() == plain.x.tolist()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"cannot be read \("):
        csv(str(path), "y")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_another_encoding_is_named_when_it_is_needed_and_read_when_it_is_given(write: Write, encoding: str):
    path = write("größe,y", "1,2.5", "2,3.5", encoding=encoding)
    with pytest.raises(DataError, match=f"not UTF-8 text; save it as UTF-8, .*data.source.encoding={encoding}"):
        csv(path, "y")
    assert csv(path, "y", encoding=encoding).feature_names == ("größe",)


@pytest.mark.parametrize("title", ["# exported", "Sales,2026", "Sales,,"])
def test_lines_before_the_header_are_skipped_by_a_key_that_is_named_without_it(write: Write, title: str):
    path = write(title, "a,b,y", "1,2,2.5", "2,3,3.5", "3,4,inf")
    with pytest.raises(DataError, match=r"data\.source\.skip_rows=1"):
        csv(path, "y")
    with pytest.raises(DataError, match="row 5, column 'y' holds inf"):
        csv(path, "y", skip_rows=1)
    assert csv(path, "b", features=["a"], skip_rows=1).x.tolist() == [[1], [2], [3]]


@pytest.mark.parametrize("lines", [("# exported", "a,y"), ("a,y",)], ids=["with", "without"])
def test_a_new_file_may_come_with_the_lines_before_its_header_or_without(write: Write, lines: tuple[str, ...]):
    source = csv(write("# exported", "a,y", "1,2.5", "2,3.5"), "y", skip_rows=1)
    new = Path(write(*lines, "7,1.5", name="new.csv"))
    (piece,) = table_pieces(new, source.inputs, source.spec, rows=9, separator=None, shown=new, warn=pytest.fail)
    assert piece.x.tolist() == [[7]]


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([5, 3, 4], name="b"),
        pd.RangeIndex(0, 6, 2, name="b"),
        pd.MultiIndex.from_arrays([[1, 2, 3], [4, 5, 6]], names=["b", "c"]),
    ],
    ids=["labels", "range", "two levels"],
)
def test_a_named_index_of_a_parquet_file_is_a_column_in_pieces_too(tmp_path: Path, index: pd.Index):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": [1.5, 2.5, 3.5], "y": [0.5, 1.5, 2.5]}, index=index).to_parquet(path)
    source = csv(str(path), "y")
    assert set(source.feature_names) == {"a", *index.names}
    assert source.x[:, source.feature_names.index("b")].tolist() == index.get_level_values("b").tolist()
    pieces = read_pieces(path, rows=2)
    assert np.concatenate([encode_features(one, source.columns) for one in pieces]).tolist() == source.x.tolist()


def test_row_labels_of_a_parquet_file_without_a_name_are_left_out_and_told(tmp_path: Path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": [1.5, 2.5], "y": [0.5, 1.5]}, index=[7, 3]).to_parquet(path)
    source = csv(str(path), "y")
    assert (source.feature_names, source.notes) == (("a",), ("left out: the row labels, which have no name",))


def test_a_model_of_before_knows_the_separator_alone():
    plain = {"target": None, "separator": ";", "picture": None, "max_value": None}
    assert Inputs.of_json(plain, ["a"]).reading == Reading(separator=";")
