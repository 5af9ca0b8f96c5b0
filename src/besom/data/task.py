"""The tasks that data can pose."""

from __future__ import annotations

from enum import StrEnum


class Task(StrEnum):
    """What a model learns to say: a number, one of two classes, one of several."""

    REGRESSION = "regression"
    BINARY = "binary"
    MULTICLASS = "multiclass"
