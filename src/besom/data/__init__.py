"""Data that lives in memory: read once per process, split by seed, scaled, batched on the device.

`besom.data.sources` holds the data sets by name and `besom.data.tables` reads a user's own CSV or Parquet. Imported
lazily (PEP 562), because a dry run looks into a table in the parent process, which never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from besom.data.batches import Batches
    from besom.data.module import InMemoryDataModule
    from besom.data.source import DataSpec, Source
    from besom.data.task import Task

__all__ = ["Batches", "DataSpec", "InMemoryDataModule", "Source", "Task"]

_HOMES = {
    "Batches": "batches",
    "DataSpec": "source",
    "InMemoryDataModule": "module",
    "Source": "source",
    "Task": "task",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
