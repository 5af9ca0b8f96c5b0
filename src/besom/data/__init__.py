"""Data that lives in memory: read once per process, split by seed, scaled, batched on the device.

`besom.data.sources` holds the data sets by name and `besom.data.tables` reads a user's own CSV or Parquet.
"""

from besom.data.batches import Batches
from besom.data.module import InMemoryDataModule
from besom.data.source import DataSpec, Source, Task

__all__ = ["Batches", "DataSpec", "InMemoryDataModule", "Source", "Task"]
