"""In-memory data: read once per process, split by seed, scaled, batched on the device.

`besom.data.sources` has the data sets by name and `besom.data.tables` reads a user's own CSV or Parquet. Imported
lazily (PEP 562), because a dry run inspects a table in the parent process, which never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from besom.system.lazy import lazy_names

if TYPE_CHECKING:
    from besom.data.dataset import DataSpec, Source
    from besom.data.loader import Batches
    from besom.data.module import InMemoryDataModule
    from besom.data.task import Task

__all__ = ["Batches", "DataSpec", "InMemoryDataModule", "Source", "Task"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Batches": "besom.data.loader",
        "DataSpec": "besom.data.dataset",
        "InMemoryDataModule": "besom.data.module",
        "Source": "besom.data.dataset",
        "Task": "besom.data.task",
    },
)
