"""The inputs and outputs of a recorded model: columns and pictures, by name and type, without any tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from besom.errors import DataError, StoreError

WEIGHTS, DESCRIPTION, CONFIG = "model.safetensors", "model.json", "config.yaml"
MODEL_FILES = (WEIGHTS, DESCRIPTION, CONFIG)
"""The artifacts of a run from which its model is rebuilt."""


class Kind(StrEnum):
    """The kind of a column's values."""

    NUMBER = "numbers"
    TRUTH = "booleans"
    TEXT = "text"
    EITHER = "numbers or booleans"
    """The kind in the record of an earlier Besom, which did not distinguish these."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table; `values` are the categories of a text feature, in the order of its features."""

    name: str
    kind: Kind = Kind.NUMBER
    values: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the column's features: its own name, or "name=value" for each category."""
        return tuple(f"{self.name}={value}" for value in self.values) or (self.name,)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The options for reading the text of a table.

    separator     the delimiter of cells; None for the suffix's
    decimal       the decimal mark
    thousands     the thousands separator; None for none
    missing       the marks of a missing value, besides an empty cell; None for pandas' own, such as NA
    encoding      None for UTF-8
    compression   None for the suffix's
    skip_rows     the number of lines before the header
    """

    separator: str | None = None
    decimal: str = "."
    thousands: str | None = None
    missing: tuple[str, ...] | None = None
    encoding: str | None = None
    compression: str | None = None
    skip_rows: int = 0


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of a model.

    columns     the columns of a table, in the order of their features
    target      the column that is predicted; None where the data was not a table
    reading     the options for reading the text of a table
    picture     (height, width), where a row is a grey picture of this size, line by line
    max_value   the largest possible value of a feature (255 for bytes); None where unknown
    """

    columns: tuple[Column, ...]
    target: Column | None = None
    reading: Reading = Reading()
    picture: tuple[int, int] | None = None
    max_value: float | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """One name per feature."""
        return tuple(feature for column in self.columns for feature in column.features)

    def as_rows(self, array: Any, what: object) -> Any:
        """Return an array or a tensor as rows [n, features]: from rows, pictures [n, height, width], or one picture.

        Raises DataError for another shape; `what` is the name of the input in the error.
        """
        shape, features = tuple(array.shape), len(self.features)
        if self.picture is not None and shape == self.picture:
            return array.reshape(1, features)
        if shape[1:] not in ((features,), self.picture):
            pictures = f", or pictures [n, {self.picture[0]}, {self.picture[1]}]" if self.picture else ""
            raise DataError(f"{what}: its shape is {list(shape)}; give rows [n, {features}]{pictures}")
        return array if len(shape) == 2 else array.reshape(shape[0], features)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form that `of_json` reads; with the columns only if the features' names do not imply them."""
        plain = asdict(self)
        if self.columns == number_columns(self.features):
            del plain["columns"]
        return plain

    @classmethod
    def of_json(cls, plain: Mapping[str, Any] | None, features: Sequence[str]) -> Inputs:
        """Return the inputs from the result of `to_json`, for a model with these features.

        A model of an earlier Besom has no such record: its text columns are derived from the features' names, and
        whether its rows were pictures is unknown. A record of a later one has only the separator of `reading`.
        """
        if plain is None:
            return cls(columns=_columns_of(features))
        picture = plain["picture"]
        return cls(
            columns=tuple(map(_column, plain["columns"])) if "columns" in plain else number_columns(features),
            target=plain["target"] and _column(plain["target"]),
            reading=_reading(plain["reading"]) if "reading" in plain else Reading(separator=plain["separator"]),
            picture=picture and (picture[0], picture[1]),
            max_value=plain["max_value"],
        )


def number_columns(names: Sequence[str]) -> tuple[Column, ...]:
    """Return columns of numbers with these names."""
    return tuple(Column(name=name) for name in names)


def _column(plain: Mapping[str, Any]) -> Column:
    return Column(name=plain["name"], kind=Kind(plain["kind"]), values=tuple(plain["values"]))


def _reading(plain: Mapping[str, Any]) -> Reading:
    missing = plain["missing"]
    return Reading(**{**plain, "missing": None if missing is None else tuple(missing)})


def _columns_of(features: Sequence[str]) -> tuple[Column, ...]:
    values: dict[str, list[str]] = {}
    for feature in features:
        name, mark, value = feature.partition("=")
        values.setdefault(name, []).extend([value] if mark else [])
    return tuple(
        Column(name=name, kind=Kind.TEXT if categories else Kind.EITHER, values=tuple(categories))
        for name, categories in values.items()
    )


def prediction_columns(classes: Sequence[str], *, probabilities: bool) -> tuple[str, ...]:
    """Return the columns of the predictions: `prediction`; for classes also its probability and, optionally, all."""
    if not classes:
        return ("prediction",)
    each = tuple(f"probability_{name}" for name in classes) if probabilities else ()
    return ("prediction", "probability", *each)


def read_description(directory: Path) -> dict[str, Any]:
    """Return the description of a saved model in a folder: its `spec`, its `features` and its `inputs`.

    Raises StoreError for a damaged description.
    """
    path = directory / DESCRIPTION
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        wrong = _inconsistency(described)
    except OSError as error:
        wrong = f"cannot be read, {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        wrong = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if wrong:
        raise damaged(DESCRIPTION, wrong)
    return dict(described)


def damaged(name: str, why: str) -> StoreError:
    """Return the error for a damaged artifact of a model."""
    return StoreError(f"{name}: damaged ({why}); put its copy back among the run's artifacts, or train the run again")


def _inconsistency(described: Any) -> str:
    """Return an inconsistency of a description, or ""; an incomplete one raises KeyError and the like."""
    spec, features = described["spec"], described["features"]
    inputs = Inputs.of_json(described.get("inputs"), features)
    columns = [*inputs.columns, *([inputs.target] if inputs.target else [])]
    names = [spec["name"], *spec["classes"], *features, *(column.name for column in columns)]
    names += [value for column in columns for value in column.values]
    if not all(isinstance(text, str) for text in names):
        return "a name is no text"
    if [spec["in_features"]] != [len(features)] or len(inputs.features) != len(features):
        return f"{spec['in_features']} inputs, and {len(features)} names"
    task, classes, outputs = spec["task"], len(spec["classes"]), spec["out_features"]
    fitting = {"regression": (0, 1), "binary": (2, 1), "multiclass": (classes, classes)}
    if fitting.get(task) != (classes, outputs):
        return f"{task} with {classes} classes and {outputs} outputs"
    if inputs.picture is not None and math.prod(inputs.picture) != len(features):
        return f"pictures {list(inputs.picture)} of {len(features)} pixels"
    if inputs.max_value is not None and not inputs.max_value > 0:
        return f"a largest value of {inputs.max_value}"
    return ""
