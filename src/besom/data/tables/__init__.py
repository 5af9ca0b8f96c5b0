"""A user's own tables, CSV or Parquet: read, inspected, and made a data set by `besom.data.tables.csv`.

Imported lazily (PEP 562), because a dry run inspects a table in the parent process, which never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from besom.system.lazy import lazy_names

if TYPE_CHECKING:
    from besom.data.tables.source import csv

__all__ = ["csv"]

__getattr__, __dir__ = lazy_names(__name__, {"csv": "besom.data.tables.source"})
