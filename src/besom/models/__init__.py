"""The models: a network, and the LightningModules that train it.

Imported lazily (PEP 562), because the parent process of a sweep asks `besom.models.metrics` which
metrics exist, and importing torch to answer that would cost it two seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from besom.models.linear import LinearRegression, LogisticRegression
    from besom.models.mlp import MLPClassifier, MLPRegressor
    from besom.models.module import SupervisedModule
    from besom.models.network import MLP

__all__ = [
    "MLP",
    "LinearRegression",
    "LogisticRegression",
    "MLPClassifier",
    "MLPRegressor",
    "SupervisedModule",
]

_HOMES = {
    "MLP": "network",
    "LinearRegression": "linear",
    "LogisticRegression": "linear",
    "MLPClassifier": "mlp",
    "MLPRegressor": "mlp",
    "SupervisedModule": "module",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
