"""A user's own table, CSV or Parquet, as a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from besom.data.columns import (
    class_indices,
    class_names,
    describe,
    encode_features,
    infer_task,
    kind,
    numbers,
    refuse_slips,
)
from besom.data.source import Source, Task
from besom.data.table_files import Table, read_table
from besom.errors import ConfigError, DataError
from besom.inputs import Column, Kind

Stamp = tuple[int, int] | None


def csv(
    path: str,
    target: str,
    task: str = "auto",
    features: Sequence[str] | None = None,
    test_path: str | None = None,
    separator: str | None = None,
) -> Source:
    """Return the table at `path` (.csv, .tsv or .parquet) as a data set that predicts the column `target`.

    `features` lists the columns to learn from; None takes all others. Numbers stay as they are, booleans
    become 0 and 1, text becomes one column "name=value" per value, which scaling leaves alone. `test_path` is
    an official test part with the same columns. `separator` divides the cells of a text file.

    `task=auto`: a target of text or booleans, or of at most 20 different whole numbers with two rows each on
    average, is classes (binary if there are two); any other is regression. So 0.0 and 1.0 are numbers: write
    `task=binary`. Numbered classes are ordered by size, named ones by alphabet.

    A file that has not changed is read once per process. Raises DataError, naming file, row and column, if it
    cannot be read or is unfit for the task, and ConfigError if `task` is unknown.
    """
    if task not in ("auto", *Task):
        raise ConfigError(f"data.source.task: {task!r} is unknown; choose auto, {', '.join(Task)}")
    # Hydra passes its own list type, which cannot be a cache key.
    chosen = None if features is None else tuple(map(str, features))
    train, test = Path(path).expanduser(), Path(test_path).expanduser() if test_path else None
    return _load(train, _stamp(train), test, _stamp(test), target, task, chosen, separator)


@lru_cache(maxsize=4)
def _load(
    path: Path,
    stamp: Stamp,
    test_path: Path | None,
    test_stamp: Stamp,
    target: str,
    task_name: str,
    features: tuple[str, ...] | None,
    separator: str | None,
) -> Source:
    table = read_table(path, separator)
    table.require([target, *(features or ())])
    columns = features if features is not None else tuple(c for c in table.frame.columns if c != target)
    if target in columns or not columns:
        raise DataError(f"{path}: {target!r} cannot be both target and feature; name the features apart from it")
    if features is None and any(column.startswith("Unnamed: ") for column in columns):
        raise DataError(f"{path}: a column has no name (row numbers?); name it, or list data.source.features")
    table.require_complete([*columns, target])
    refuse_slips(table, [*columns, target])
    task = infer_task(table, target) if task_name == "auto" else Task(task_name)
    classes = () if task is Task.REGRESSION else _classes(table, target, task)
    described = describe(table, columns)
    x, y = encode_features(table, described), _encode_target(table, target, classes)
    test_x = test_y = None
    if test_path is not None:
        test = read_table(test_path, separator, text=text_columns(described))
        test.require([target])
        test.require_complete([target])
        test_x, test_y = encode_features(test, described), _encode_target(test, target, classes)
    return Source(
        name=path.stem,
        task=task,
        x=x,
        y=y,
        test_x=test_x,
        test_y=test_y,
        feature_names=tuple(feature for column in described for feature in column.features),
        class_names=classes,
        numeric=torch.tensor([column.kind is not Kind.TEXT for column in described for _ in column.features]),
        columns=described,
        target=Column(name=target, kind=kind(table, target)),
        separator=separator,
    )


def _classes(table: Table, target: str, task: Task) -> tuple[str, ...]:
    classes = class_names(table, target)
    if len(classes) < 2:
        raise DataError(f"{table.path}: column {target!r} is {classes[0]!r} in every row; classes need two values")
    if task is Task.BINARY and len(classes) > 2:
        raise DataError(
            f"{table.path}: column {target!r} has {len(classes)} values, as {', '.join(classes[:3])}; "
            "set data.source.task=multiclass"
        )
    return classes


def _encode_target(table: Table, target: str, classes: tuple[str, ...]) -> Tensor:
    return torch.from_numpy(class_indices(table, target, classes) if classes else numbers(table, target))


def text_columns(columns: Iterable[Column]) -> list[str]:
    """Return the names of those that hold text: it stays text in another file, even where it looks like numbers."""
    return [column.name for column in columns if column.kind is Kind.TEXT]


def _stamp(path: Path | None) -> Stamp:
    if path is None or not path.is_file():
        return None
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
