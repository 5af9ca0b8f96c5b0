"""A data set as it is read: tensors, names and the task."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from besom.config.model_inputs import Column, Inputs, Reading, number_columns
from besom.data.task import Task
from besom.errors import DataError

__all__ = ["DataSpec", "Source", "Task"]


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The properties of the data that a model is built from; `out_features` is 1 unless the task is multi-class."""

    name: str
    task: Task
    in_features: int
    out_features: int
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A data set as it was read: neither split nor scaled.

    x             [n, features], float32; float64 for tables, and uint8 for images, until they are scaled
    y             [n], int64 indices into `class_names`, or float32 for regression
    test_x/test_y the official test part, None where a data set has none
    numeric       bool [features]: the columns to scale; None for all of them
    max_value     the largest possible value of a feature (255 for images); None where unknown
    columns       for a table, the columns that the features are made of, its `target`, and its `reading`
    notes         for a table, lines for the user about the interpretation of its columns
    picture       (height, width), where each row of x is a grey picture

    Sources are compared by identity, since they are keys in caches. Raises DataError if the tensors do not fit
    together.
    """

    name: str
    task: Task
    x: Tensor
    y: Tensor
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    test_x: Tensor | None = None
    test_y: Tensor | None = None
    numeric: Tensor | None = None
    max_value: float | None = None
    columns: tuple[Column, ...] | None = None
    target: Column | None = None
    reading: Reading = field(default_factory=Reading)
    notes: tuple[str, ...] = ()
    picture: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if (self.test_x is None) != (self.test_y is None):
            raise DataError(f"{self.name}: a test part needs both test_x and test_y; give both or neither")
        _check_part(self, self.x, self.y)
        if self.test_x is not None and self.test_y is not None:
            _check_part(self, self.test_x, self.test_y)
        if self.picture is not None and math.prod(self.picture) != len(self.feature_names):
            height, width = self.picture
            raise DataError(
                f"{self.name}: {len(self.feature_names)} features are no picture of {height} x {width} pixels; "
                "give its height and width"
            )

    @property
    def spec(self) -> DataSpec:
        """The properties that a model is built from."""
        return DataSpec(
            name=self.name,
            task=self.task,
            in_features=self.x.shape[1],
            out_features=len(self.class_names) if self.task is Task.MULTICLASS else 1,
            classes=self.class_names,
        )

    @property
    def inputs(self) -> Inputs:
        """The inputs of a model that is trained on this data set."""
        return Inputs(
            columns=self.columns or number_columns(self.feature_names),
            target=self.target,
            reading=self.reading,
            picture=self.picture,
            max_value=self.max_value,
        )


def _check_part(source: Source, x: Tensor, y: Tensor) -> None:
    features = len(source.feature_names)
    if x.ndim != 2 or x.shape[1] != features or y.shape != x.shape[:1] or not len(y):
        raise DataError(
            f"{source.name}: x {list(x.shape)} and y {list(y.shape)} do not fit {features} feature names; "
            "give x [n, features] and y [n], n at least 1"
        )
    if source.task is Task.REGRESSION:
        return
    classes = len(source.class_names)
    if classes < 2 or (source.task is Task.BINARY and classes > 2):
        raise DataError(f"{source.name}: {classes} class names do not make a {source.task} task; name each class")
    if y.is_floating_point() or int(y.min()) < 0 or int(y.max()) >= classes:
        raise DataError(f"{source.name}: y holds more than the class indices 0 to {classes - 1}; give int64 indices")
