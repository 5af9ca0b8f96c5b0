"""A user's own table: what it becomes, and every way in which it can be unfit."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
import torch

from besom.data import Task
from besom.data.tables.columns import encode_features
from besom.data.tables.files import read_pieces
from besom.data.tables.inspection import text_columns
from besom.data.tables.source import csv
from besom.errors import BesomError, ConfigError, DataError

PEOPLE = """age,color,member,income,tier
30,red,True,1.5,2
40,blue,False,2.5,1
50,red,True,3.5,2
60,green,False,4.5,10
"""


@pytest.fixture
def write(tmp_path):
    """Write text to a file of that name and return its path as a string."""

    def write_file(text, name="train.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write_file


def numbered(rows, **columns):
    """A CSV text of `rows` rows, each column a function of the row's number from 0."""
    lines = [",".join(str(column(i)) for column in columns.values()) for i in range(rows)]
    return "\n".join([",".join(columns), *lines]) + "\n"


def read_new(path, columns):
    """The features of a file that a model of these columns is asked about."""
    pieces = read_pieces(Path(path), rows=2, text=text_columns(columns))
    return torch.cat([torch.from_numpy(encode_features(piece, columns)) for piece in pieces])


def test_numbers_stay_booleans_become_0_and_1_and_text_becomes_one_hot_in_sorted_order(write):
    source = csv(write(PEOPLE), target="income")
    assert source.name == "train"
    assert source.feature_names == ("age", "color=blue", "color=green", "color=red", "member", "tier")
    assert source.x.tolist() == [
        [30, 0, 0, 1, 1, 2],
        [40, 1, 0, 0, 0, 1],
        [50, 0, 0, 1, 1, 2],
        [60, 0, 1, 0, 0, 10],
    ]
    assert source.numeric.tolist() == [True, False, False, False, True, True]
    assert source.y.tolist() == [1.5, 2.5, 3.5, 4.5]
    assert (source.x.dtype, source.y.dtype) == (torch.float64, torch.float32)


def test_features_selects_columns_in_the_order_given(write):
    source = csv(write(PEOPLE), target="income", features=["tier", "age"])
    assert source.feature_names == ("tier", "age")
    assert source.x[0].tolist() == [2, 30]


@pytest.mark.parametrize(
    ("value", "task", "classes"),
    [
        (lambda i: "yes" if i % 2 else "no", Task.BINARY, ("no", "yes")),
        (lambda i: "abc"[i % 3], Task.MULTICLASS, ("a", "b", "c")),
        (lambda i: i % 2 == 0, Task.BINARY, ("False", "True")),
        (lambda i: i % 2, Task.BINARY, ("0", "1")),
        (lambda i: 5 * (i % 3), Task.MULTICLASS, ("0", "5", "10")),
        (lambda i: i % 21, Task.REGRESSION, ()),
        (lambda i: float(i % 2), Task.REGRESSION, ()),
        (lambda i: i / 7, Task.REGRESSION, ()),
    ],
)
def test_auto_finds_the_task_by_the_target(write, value, task, classes):
    source = csv(write(numbered(60, x=lambda i: i, y=value)), target="y")
    assert (source.task, source.class_names) == (task, classes)


def test_few_rows_of_different_whole_numbers_are_a_regression(write):
    assert csv(write(numbered(10, x=lambda i: i, y=lambda i: i + 1)), target="y").task is Task.REGRESSION


def test_a_task_that_is_named_wins_over_the_rule(write):
    path = write(numbered(60, x=lambda i: i, y=lambda i: float(i % 2)))
    source = csv(path, target="y", task="binary")
    assert (source.task, source.class_names, source.y[:3].tolist()) == (Task.BINARY, ("0", "1"), [0, 1, 0])


def test_parquet_and_tsv_hold_the_same_as_csv(write, tmp_path):
    path = write(PEOPLE)
    pd.read_csv(path).to_parquet(tmp_path / "train.parquet")
    expected = csv(path, target="tier")
    for other in (
        csv(str(tmp_path / "train.parquet"), target="tier"),
        csv(write(PEOPLE.replace(",", "\t"), "train.tsv"), target="tier"),
        csv(write(PEOPLE.replace(",", ";"), "train.txt"), target="tier", separator=";"),
    ):
        assert torch.equal(other.x, expected.x)
        assert other.feature_names == expected.feature_names


def test_a_test_file_is_encoded_as_the_training_file_is(write):
    test = "color,age,income,member,tier,note\nred,1,0.5,True,3,x\nred,2,0.5,True,3,y\n"
    source = csv(write(PEOPLE), target="income", test_path=write(test, "test.csv"))
    assert source.test_x.tolist() == [[1, 0, 0, 1, 1, 3], [2, 0, 0, 1, 1, 3]]
    assert source.test_y.tolist() == [0.5, 0.5]


def test_new_inputs_are_read_by_the_columns_of_the_trained_source(write):
    columns = csv(write(PEOPLE), target="income").columns
    new = write("member,tier,age,color\nFalse,1,20,blue\n", "new.csv")
    assert read_new(new, columns).tolist() == [[20, 1, 0, 0, 0, 1]]


def test_categories_that_look_like_numbers_in_new_inputs_stay_categories(write):
    train = write(numbered(9, code=lambda i: ("1a", "2", "b3")[i % 3], y=lambda i: i / 2))
    columns = csv(train, target="y").columns
    assert read_new(write("code\n2\n2\n", "new.csv"), columns).tolist() == [[0, 1, 0]] * 2


def test_a_file_is_read_once_until_it_changes(write):
    path = write(PEOPLE)
    source = csv(path, target="income", features=["age"])
    assert csv(path, target="income", features=["age"]) is source
    write(PEOPLE + "70,red,True,5.5,1\n")
    assert len(csv(path, target="income", features=["age"]).y) == 5
    os.utime(path, ns=(1, 1))
    assert csv(path, target="income", features=["age"]) is not source


TWENTY = numbered(20, age=lambda i: i, name=lambda i: f"n{i}", color=lambda i: "red", y=lambda i: i / 2)


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("", {}, "train.csv: the file is empty; give one with a header and rows"),
        ("a,y\n", {}, "train.csv: there is a header and no rows"),
        ("a,a,y\n1,2,3\n", {}, "train.csv: column 'a' appears twice; rename or drop one"),
        (
            "age,income\n1,2\n",
            {"target": "incom"},
            "train.csv: no column 'incom' among age, income; did you mean 'income'?",
        ),
        (
            "age;y\n1;2\n",
            {},
            "no column 'y' among age;y; the columns seem to be divided by another mark; set",
        ),
        (TWENTY, {"features": ["agee"]}, "no column 'agee' among age, name, color, y; did you mean 'age'?"),
        (TWENTY, {"features": ["y"]}, "'y' cannot be both target and feature"),
        (
            "a,b,y\n1,2,3\n\n1,,3\n,1,\n",
            {},
            "train.csv: row 4, column 'b' is missing (3 missing in all); fill it, drop the row, or leave",
        ),
        ('a,b,y\n"x\ny",2,3\n1,2,\n', {}, "train.csv: row 4, column 'y' is missing (1 missing in all)"),
        ("a,y\n1,2\ninf,3\n", {}, "train.csv: row 3, column 'a' holds inf, which is no finite 32-bit number"),
        ("a,y\n1,2\n1e39,3\n", {}, "train.csv: row 3, column 'a' holds 1e+39, which is no finite 32-bit"),
        ("a,y\n1,-inf\n2,3\n", {}, "train.csv: row 2, column 'y' holds -inf"),
        ("a,y\n1,0\n2,inf\n3,0\n", {"task": "binary"}, "train.csv: row 3, column 'y' holds inf"),
        ("a,y\n1,low\n2,high\n", {"task": "regression"}, "train.csv: row 2, column 'y' holds the text 'low'"),
        (
            numbered(10, a=lambda i: "n/k" if i == 6 else i, y=lambda i: i / 2),
            {},
            "train.csv: row 8, column 'a' holds 'n/k' among numbers; correct it",
        ),
        (
            TWENTY,
            {},
            "train.csv: column 'name' is text with 20 different values in 20 rows, no category; list",
        ),
        (
            numbered(600, a=lambda i: f"n{i % 300}", y=lambda i: i / 2),
            {},
            "column 'a' is text with 300 different values in 600 rows",
        ),
        ("a,y\n1,b\n2,b\n", {}, "train.csv: column 'y' is 'b' in every row; classes need two values"),
        (
            numbered(9, a=lambda i: i, y=lambda i: i % 3),
            {"task": "binary"},
            "column 'y' has 3 values, as 0, 1, 2; set data.source.task=multiclass",
        ),
        (",a,y\n0,1,2\n1,3,4\n", {}, "train.csv: a column has no name (row numbers?); name it, or list"),
        ("a,y\n1,2,3\n4,5,6\n", {}, "train.csv: 3 cells in the first row under 2 names; name each column"),
        (
            "a,y\n1,2\n4,5,6\n",
            {},
            "train.csv: cannot be read (Error tokenizing data. C error: Expected 2 fields",
        ),
        ("y\n1\n2\n", {}, "cannot be both target and feature"),
        (
            TWENTY,
            {"task": "guess"},
            "data.source.task: 'guess' is unknown; choose auto, regression, binary, mul",
        ),
        (TWENTY, {"separator": ", "}, "data.source.separator: ', ' is not one character"),
    ],
)
def test_an_unfit_table_is_refused_in_one_line_that_names_the_place(write, text, arguments, message):
    with pytest.raises(BesomError) as caught:
        csv(write(text), **({"target": "y"} | arguments))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    expected = ConfigError if message.startswith("data.source") else DataError
    assert type(caught.value) is expected


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file; give the path"):
        csv(str(tmp_path / "nowhere.csv"), target="y")


def test_a_file_of_another_kind_is_refused(write):
    with pytest.raises(DataError, match=r"train\.xlsx: neither \.csv, \.tsv nor \.parquet"):
        csv(write("x", "train.xlsx"), target="y")


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "train.csv").write_bytes("größe,y\n1,2\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8 text; save it as UTF-8"):
        csv(str(tmp_path / "train.csv"), target="y")


def test_a_byte_order_mark_is_no_part_of_the_first_column(write):
    assert csv(write("\ufeffa,y\n1,2.5\n2,3.5\n"), target="y").feature_names == ("a",)


def test_a_torn_parquet_file_is_refused(tmp_path):
    path = tmp_path / "train.parquet"
    pd.DataFrame({"a": [1, 2], "y": [0.5, 1.5]}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"train\.parquet: cannot be read \("):
        csv(str(path), target="y")


def test_parquet_rows_are_counted_from_1_and_dates_are_refused(tmp_path):
    path = tmp_path / "train.parquet"
    frame = pd.DataFrame({"a": [1, None], "y": [0.5, 1.5]})
    frame.to_parquet(path)
    with pytest.raises(DataError, match="row 2, column 'a' is missing"):
        csv(str(path), target="y")
    frame.assign(a=pd.Timestamp("2020-01-01")).to_parquet(path)
    with pytest.raises(DataError, match=r"column 'a' holds datetime64.* values; turn them into numbers"):
        csv(str(path), target="y")


def test_a_category_or_class_that_training_never_saw_is_refused(write):
    train = write(PEOPLE)
    columns = csv(train, target="income").columns
    new = write("age,color,member,tier\n1,red,True,1\n1,pink,True,1\n", "new.csv")
    with pytest.raises(DataError, match=r"new\.csv: row 1 \(line 3\), column 'color' holds 'pink', which"):
        read_new(new, columns)
    test = write("age,color\n1,white\n", "test.csv")
    with pytest.raises(DataError, match=r"test\.csv: row 2, column 'color' holds 'white', which the training"):
        csv(train, target="color", features=["age"], test_path=test)


def test_new_inputs_without_a_column_or_with_text_for_numbers_are_refused(write):
    columns = csv(write(PEOPLE), target="income").columns
    with pytest.raises(DataError, match="no column 'color' among age, member, tier"):
        read_new(write("age,member,tier\n1,True,2\n", "new.csv"), columns)
    with pytest.raises(DataError, match=r"row 1 \(line 3\), column 'age' holds the text 'old'; numbers are needed"):
        read_new(write("age\n3\nold\n", "old.csv"), columns[:1])
