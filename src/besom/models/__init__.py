"""The models: a network, and the LightningModules that train it.

They are imported lazily (PEP 562): a package import from the parent process of a sweep must not import torch, which
takes two seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from besom.system.lazy import lazy_names

if TYPE_CHECKING:
    from besom.models.mlp import LinearRegression, LogisticRegression, MLPClassifier, MLPRegressor
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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "MLP": "besom.models.network",
        "LinearRegression": "besom.models.mlp",
        "LogisticRegression": "besom.models.mlp",
        "MLPClassifier": "besom.models.mlp",
        "MLPRegressor": "besom.models.mlp",
        "SupervisedModule": "besom.models.module",
    },
)
