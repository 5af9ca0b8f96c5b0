"""The checks of `_target_` nodes: each must exist, and accept the keys of its node."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import get_object

from besom.errors import ConfigError, kind_and_line, one_of


def check_targets(node: Any, path: str = "") -> None:
    """Refuse a resolved config with a `_target_` that cannot be imported, or does not accept one of its keys.

    Only a key that was added with `+` can be unknown here. Raises ConfigError naming the key.
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


def targets_in(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the key and the value of each `_target_` in a config, at any depth, including lists and `_args_`."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield f"{key}._target_" if key else "_target_", node["_target_"]
        for name, value in node.items():
            yield from targets_in(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, Sequence) and not isinstance(node, str | bytes):
        for index, value in enumerate(node):
            yield from targets_in(value, f"{key}[{index}]")


def find_target(target: str, key: str) -> Any:
    """Import and return the object that a `_target_` at `key` names. Raises ConfigError if it cannot be imported."""
    if not isinstance(target, str):
        raise ConfigError(f"{key}: {target} names no class; write such as besom.models.MLPClassifier")
    try:
        return get_object(target)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{key}: {target} cannot be imported{_why(error, target)}") from error


def signature_of(target: str, path: str) -> inspect.Signature | None:
    """Return the signature of the object that a `_target_` names, or None if it has none.

    Raises ConfigError if it cannot be imported.
    """
    found = find_target(target, f"{path}._target_")
    try:
        return inspect.signature(found)
    except (TypeError, ValueError):  # a builtin, or not callable
        return None


def _why(error: BaseException, target: str) -> str:
    """Return the rest of the message: the error in the user's file, or that the name does not exist."""
    cause = error.__cause__
    module = target.rpartition(".")[0]
    if isinstance(cause, ModuleNotFoundError) and cause.name and f"{target}.".startswith(f"{cause.name}."):
        found = sys.modules.get(module)  # the last part of the name is wrong
        if found is not None and not hasattr(found, "__path__"):
            names = [name for name in vars(found) if not name.startswith("_")]
            return f": {module} has no {target.rpartition('.')[2]}; {one_of(target.rpartition('.')[2], names)}"
        return f"; check the name and the installation, and look for it in {Path.cwd()}"
    if cause is None or (isinstance(cause, AttributeError) and module in sys.modules):
        return "; check the name and the installation"
    if isinstance(cause, SyntaxError):
        return f": {cause.msg} ({cause.filename}, line {cause.lineno}); mend it"
    # The last frame in a user's file, not in what imports it.
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if not frame.filename.startswith("<frozen")]
    own = [frame for frame in frames[1:] if "site-packages" not in frame.filename] or frames
    return f": {kind_and_line(cause)} ({own[-1].filename}, line {own[-1].lineno}); mend it"
