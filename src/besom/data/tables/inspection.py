"""The inspection of a table before anything is trained on it: its task, and the kinds of its columns.

Without torch: the parent process of a sweep inspects a table for a dry run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from besom.config.model_inputs import Column, Kind, Reading
from besom.data.tables.columns import class_names, describe, infer_task, kind, labels, refuse_damaged_numbers
from besom.data.tables.files import read_table
from besom.data.tables.table import Table, without_missing
from besom.data.tables.text import check_reading
from besom.data.task import Task
from besom.errors import ConfigError, DataError, first_few

_NAMED = 8  # most columns of a kind that are listed by name

_Stamp = tuple[int, int] | None


@dataclass(frozen=True, kw_only=True)
class TableRequest:
    """The keys of `data.source`, see `besom.data.tables.csv`; the stamps show whether a file has changed."""

    path: Path
    target: str
    task: str
    features: tuple[str, ...] | None
    categories: tuple[str, ...]
    test_path: Path | None
    drop_missing: bool
    reading: Reading
    stamps: tuple[_Stamp, _Stamp]

    @classmethod
    def of(
        cls,
        *,
        path: str,
        target: str,
        task: str = "auto",
        features: Sequence[str] | None = None,
        test_path: str | None = None,
        categories: Sequence[str] | None = None,
        drop_missing: bool = False,
        missing: Sequence[object] | None = None,
        **reading: Any,
    ) -> TableRequest:
        """Return the request of the keys of `data.source`; keys that are not named here are `Reading`'s.

        Raises ConfigError for a value out of range.
        """
        if task not in ("auto", *Task):
            raise ConfigError(f"data.source.task: {task!r} is unknown; choose auto, {', '.join(Task)}")
        text_reading = Reading(missing=None if missing is None else tuple(map(str, missing)), **reading)
        check_reading(text_reading)
        train, test = Path(path).expanduser(), Path(test_path).expanduser() if test_path else None
        return cls(
            path=train,
            target=target,
            task=task,
            # Hydra passes its own list type, which cannot be a cache key.
            features=None if features is None else tuple(map(str, features)),
            categories=tuple(map(str, categories or ())),
            test_path=test,
            drop_missing=drop_missing,
            reading=text_reading,
            stamps=(_stamp(train), _stamp(test)),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class InspectedTable:
    """A table that can be trained on, and perhaps its test part.

    classes   the names of the target's classes; none for a regression
    columns   the columns that its features are made of
    notes     lines for the user about the interpretation of its columns: none if all are numbers
    """

    table: Table
    test: Table | None
    task: Task
    classes: tuple[str, ...]
    columns: tuple[Column, ...]
    target: Column
    notes: tuple[str, ...]


@lru_cache(maxsize=4)
def inspect_table(request: TableRequest) -> InspectedTable:
    """Read a table and inspect it. Raises DataError, naming file, row and column, if it does not suit the task."""
    path, target = request.path, request.target
    kept = request.categories
    table = read_table(path, request.reading, text=kept, drop_missing=request.drop_missing)
    table.require([target, *(request.features or ()), *kept])
    columns = _feature_columns(table, request)
    used = [*columns, target]
    if request.drop_missing:
        table = without_missing(table, used)
    table.require_complete(used)
    refuse_damaged_numbers(table, used)
    task = infer_task(table, target) if request.task == "auto" else Task(request.task)
    classes = () if task is Task.REGRESSION else _classes(table, target, task)
    described = describe(table, columns)
    goal = Column(name=target, kind=kind(table, target))
    test = None
    if request.test_path is not None:
        text = text_columns([*described, goal])
        test = read_table(request.test_path, request.reading, text=text, drop_missing=request.drop_missing)
        test.require(used)
        test = without_missing(test, used) if request.drop_missing else test
        test.require_complete([target])
    return InspectedTable(
        table=table,
        test=test,
        task=task,
        classes=classes,
        columns=described,
        target=goal,
        notes=tuple(_notes(table, test, described, target, task, classes)),
    )


def _feature_columns(table: Table, request: TableRequest) -> tuple[str, ...]:
    path, target, features = table.path, request.target, request.features
    columns = features if features is not None else tuple(c for c in table.frame.columns if c != target)
    if target in columns or not columns:
        raise DataError(f"{path}: {target!r} cannot be both target and feature; name the features apart from it")
    if features is None and any(column.startswith("Unnamed: ") for column in columns):
        raise DataError(f"{path}: a column has no name (row numbers?); name it, or list data.source.features")
    return columns


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


def _notes(
    table: Table, test: Table | None, columns: Sequence[Column], target: str, task: Task, classes: Sequence[str]
) -> Iterator[str]:
    """Yield lines that the user should know before a model is trained on a table."""
    left_out = [name for name in table.frame.columns if name not in {column.name for column in columns} | {target}]
    if left_out or any(column.kind is not Kind.NUMBER for column in columns):
        groups = {
            "numbers": [column.name for column in columns if column.kind is Kind.NUMBER],
            "booleans": [column.name for column in columns if column.kind is Kind.TRUTH],
            "categories": [
                f"{column.name} ({len(column.values)} values)" for column in columns if column.kind is Kind.TEXT
            ],
            "left out": left_out,
        }
        parts = [f"{name} {first_few(members, _NAMED)}" for name, members in groups.items() if members]
        goal = f"{len(classes)} classes" if classes else task.value
        yield "; ".join([f"columns: {parts[0]}", *parts[1:], f"target {target} ({goal})"])
    yield from table.notes
    if test is not None:
        yield from (f"{test.path.name}: {note}" for note in test.notes)
    if classes:
        single = [name for name, count in Counter(labels(table, target)).items() if count == 1]
        for name in sorted(single)[:_NAMED]:
            yield (f"class {name!r} of column {target!r} has one row, which trains: nothing tells how well it is found")
        if len(single) > _NAMED:
            yield f"so have {len(single) - _NAMED} more classes"


def text_columns(columns: Iterable[Column]) -> list[str]:
    """Return the names of the text columns: they stay text in another file, even if they look like numbers there."""
    return [column.name for column in columns if column.kind is Kind.TEXT]


def _stamp(path: Path | None) -> _Stamp:
    if path is None or not path.is_file():
        return None
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
