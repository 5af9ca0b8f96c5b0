"""What a dry run sees of a user's own tables: what their columns are taken for, or why nothing can train on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from besom.config.checks import resolved, select
from besom.errors import BesomError, ConfigError

if TYPE_CHECKING:
    from besom.data.tables.examination import Examined


def told_of_tables(configs: Iterable[DictConfig]) -> Iterator[str]:
    """Yield what is told of the tables that configs name, each line once."""
    for found in _looked_into(configs):
        if not isinstance(found, BesomError):
            yield from found.told


def refused_tables(configs: Iterable[DictConfig]) -> Iterator[str]:
    """Yield why tables that configs name cannot be trained on."""
    for found in _looked_into(configs):
        if isinstance(found, BesomError):
            yield str(found)


def _looked_into(configs: Iterable[DictConfig]) -> Iterator[Examined | BesomError]:
    seen: list[Mapping[str, Any]] = []
    for config in configs:
        try:
            if select(config, "data.source._target_") != "besom.data.tables.csv":
                continue
        except ConfigError:
            continue  # another app's, perhaps, which says itself what it lacks
        try:
            keys = {key: value for key, value in resolved(config.data)["source"].items() if key != "_target_"}
            if keys in seen:
                continue
            seen.append(keys)
            yield _examined(keys)
        except BesomError as error:
            yield error


def _examined(keys: Mapping[str, Any]) -> Examined:
    from besom.data.tables.examination import Request, examine  # pandas takes a while, and only tables need it

    return examine(Request.of(**keys))
