"""The `_target_` nodes of a config: that what they name exists, and takes the keys that stand beside it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from hydra.utils import get_object

from besom.errors import ConfigError, one_of


def check_targets(node: Any, path: str = "") -> None:
    """Refuse a resolved config in which a `_target_` cannot be imported, or does not take one of its keys.

    A key that was added with `+` gets this far. Raises ConfigError naming the key.
    """
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        check_targets(value, f"{path}.{key}" if path else str(key))
    target = node.get("_target_")
    signature = None if target is None else signature_of(target, path)
    if signature is None or any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values()):
        return
    for key in node:
        if not key.startswith("_") and key not in signature.parameters:
            raise ConfigError(f"{path}.{key}: {target} takes no '{key}'; {one_of(key, signature.parameters)}")


def find_target(target: str, key: str) -> Any:
    """Return what a `_target_` at `key` names, having imported it. Raises ConfigError when it cannot be imported."""
    try:
        return get_object(target)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{key}: {target} cannot be imported; check the name and the installation") from error


def signature_of(target: str, path: str) -> inspect.Signature | None:
    """Return the signature of what a `_target_` names, or None for something that has none.

    Raises ConfigError when it cannot be imported.
    """
    found = find_target(target, f"{path}._target_")
    try:
        return inspect.signature(found)
    except (TypeError, ValueError):  # something built in, or nothing that can be called
        return None
