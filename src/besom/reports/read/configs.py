"""The configs of a study by number: 1 is the first; of each later one the study stores the differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from besom.tracking.tags import StudyAttribute

OF_A_CHOICE = ": "
"""The separator of a config group's choice and a key, in the name of a value that only this choice sets."""


def configs_of(attrs: Mapping[str, Any]) -> dict[int, dict[str, str]]:
    """Return a study's flattened configs by number, from its attributes."""
    first = attrs.get(StudyAttribute.CONFIG)
    if not isinstance(first, dict):
        return {}
    later = [{**first, **changed} for changed in attrs.get(StudyAttribute.CONFIGS, [])]
    configs = [{key: value for key, value in one.items() if value is not None} for one in (first, *later)]
    return dict(enumerate(configs, start=1))


_ABSENT, _EMPTY = "not there", ("None", "[]", "{}")


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the differences between two flattened configs, such as `trainer.max_epochs was 10, is 5`.

    A key that one of them lacks and the other leaves empty is none: a newer version may know more keys.
    """
    pairs = ((key, _value(before, key), _value(now, key)) for key in sorted({*before, *now}))
    return [f"{key} was {was}, is {value}" for key, was, value in pairs if was != value and not _is_new(was, value)]


def _is_new(*values: str) -> bool:
    return _ABSENT in values and any(value in _EMPTY for value in values)


def _value(config: Mapping[str, str], key: str) -> str:
    """Return a choice's own value, or the common value of all choices."""
    return config.get(key, config.get(key.rpartition(OF_A_CHOICE)[2], _ABSENT))
