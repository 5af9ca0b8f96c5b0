"""The keys that a user has set for the model to read: those of the config groups `optimizer` and `scheduler`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from omegaconf import DictConfig, OmegaConf

GROUPS = ("optimizer", "scheduler")
"""The config groups that a model gets if its constructor has a parameter of that name."""


def keys_for_model(overrides: Iterable[str], config: DictConfig) -> tuple[str, ...]:
    """Return the keys of these groups among overrides or their keys, unless another key of the config refers to them.

    A group that is empty, as with `scheduler=none`, asks for nothing.
    """
    keys = [override.partition("=")[0].lstrip("+") for override in overrides]
    asked = [key for key in keys if key.partition(".")[0] in GROUPS]
    return tuple(dict.fromkeys(key for key in asked if _waits_for_model(key.partition(".")[0], config)))


def _waits_for_model(group: str, config: DictConfig) -> bool:
    written = OmegaConf.to_container(config, resolve=False)
    assert isinstance(written, dict)
    others = OmegaConf.to_yaml({name: node for name, node in written.items() if name != group})
    return bool(written.get(group)) and re.search(rf"\$\{{[^}}]*\b{group}\b", others) is None
