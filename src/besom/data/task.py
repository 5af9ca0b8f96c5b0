"""The learning tasks."""

from __future__ import annotations

from enum import StrEnum


class Task(StrEnum):
    """The learning task: regression, binary or multi-class classification."""

    REGRESSION = "regression"
    BINARY = "binary"
    MULTICLASS = "multiclass"
