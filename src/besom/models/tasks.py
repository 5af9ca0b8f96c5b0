"""Which model fits which data."""

from __future__ import annotations

from besom.data.dataset import DataSpec, Task
from besom.errors import ConfigError


def require_number(model: str, spec: DataSpec, *, instead: str) -> None:
    """Raise ConfigError, recommending `model=instead`, unless the data has a number to predict."""
    if spec.task is not Task.REGRESSION:
        raise ConfigError(
            f"model: {model} predicts a number, but data '{spec.name}' has {len(spec.classes)} classes; "
            f"use model={instead}"
        )


def require_classes(model: str, spec: DataSpec, *, instead: str) -> None:
    """Raise ConfigError, recommending `model=instead`, unless the data has classes to predict."""
    if spec.task is Task.REGRESSION:
        raise ConfigError(
            f"model: {model} predicts a class, but data '{spec.name}' is a regression; use model={instead}"
        )
