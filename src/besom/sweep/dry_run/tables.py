"""A user's own tables in a dry run: the roles of their columns, or the errors in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from besom.config.checks import resolved, select
from besom.errors import BesomError, ConfigError

if TYPE_CHECKING:
    from besom.data.tables.inspection import InspectedTable


def told_of_tables(configs: Iterable[DictConfig]) -> Iterator[str]:
    """Yield the description of the tables that configs name, line by line."""
    for table in _inspected_tables(configs):
        if not isinstance(table, BesomError):
            yield from table.notes


def refused_tables(configs: Iterable[DictConfig]) -> Iterator[str]:
    """Yield the errors in the tables that configs name."""
    for table in _inspected_tables(configs):
        if isinstance(table, BesomError):
            yield str(table)


def _inspected_tables(configs: Iterable[DictConfig]) -> Iterator[InspectedTable | BesomError]:
    seen: list[Mapping[str, Any]] = []
    for config in configs:
        try:
            if select(config, "data.source._target_") != "besom.data.tables.csv":
                continue
        except ConfigError:
            continue  # perhaps another app's config: the app reports missing keys itself
        try:
            keys = {key: value for key, value in resolved(config.data)["source"].items() if key != "_target_"}
            if keys in seen:
                continue
            seen.append(keys)
            yield _inspect(keys)
        except BesomError as error:
            yield error


def _inspect(keys: Mapping[str, Any]) -> InspectedTable:
    # They import pandas, which is slow and only tables need.
    from besom.data.tables.inspection import TableRequest, inspect_table

    return inspect_table(TableRequest.of(**keys))
