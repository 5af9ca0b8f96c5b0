"""The configs of a study, by number: 1 is the one that it began with; of each later one it keeps what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FIRST, LATER = "besom.config", "besom.configs"
"""The attributes of a study: the flattened config that it began with, and of each later one the values that differ."""

OF_A_CHOICE = ": "
"""Between a choice of a config group and a key, in the name of a value that only this choice gives."""

_NAMED = 8


def configs_of(attrs: Mapping[str, Any]) -> dict[int, dict[str, str]]:
    """Return a study's flattened configs by number, by its attributes."""
    first = attrs.get(FIRST)
    if not isinstance(first, dict):
        return {}
    later = [{**first, **changed} for changed in attrs.get(LATER, [])]
    configs = [{key: value for key, value in one.items() if value is not None} for one in (first, *later)]
    return dict(enumerate(configs, start=1))


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return what differs between two flattened configs, such as `trainer.max_epochs was 10, is 5`."""
    pairs = ((key, _value(before, key), _value(now, key)) for key in sorted({*before, *now}))
    return [f"{key} was {was}, is {value}" for key, was, value in pairs if was != value]


def in_short(changes: Sequence[str]) -> str:
    """Some differences on one line, the first few of many."""
    rest = len(changes) - _NAMED
    return ", ".join(changes[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _value(config: Mapping[str, str], key: str) -> str:
    """A choice's own value, or the one that all choices have."""
    return config.get(key, config.get(key.rpartition(OF_A_CHOICE)[2], "not there"))
