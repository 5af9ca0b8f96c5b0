"""The `_target_` nodes of a config: that what they name exists, and takes the keys that stand beside it."""

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


def targets_in(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the key and the value of each `_target_` in a config, at any depth: in lists and in `_args_` as well."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield f"{key}._target_" if key else "_target_", node["_target_"]
        for name, value in node.items():
            yield from targets_in(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, Sequence) and not isinstance(node, str | bytes):
        for index, value in enumerate(node):
            yield from targets_in(value, f"{key}[{index}]")


def find_target(target: str, key: str) -> Any:
    """Return what a `_target_` at `key` names, having imported it. Raises ConfigError when it cannot be imported."""
    if not isinstance(target, str):
        raise ConfigError(f"{key}: {target} names no class; write such as besom.models.MLPClassifier")
    try:
        return get_object(target)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{key}: {target} cannot be imported{_why(error, target)}") from error


def signature_of(target: str, path: str) -> inspect.Signature | None:
    """Return the signature of what a `_target_` names, or None for something that has none.

    Raises ConfigError when it cannot be imported.
    """
    found = find_target(target, f"{path}._target_")
    try:
        return inspect.signature(found)
    except (TypeError, ValueError):  # something built in, or nothing that can be called
        return None


def _why(error: BaseException, target: str) -> str:
    """Return the rest of the line: what broke in whose file, or what there is no trace of."""
    cause = error.__cause__
    module = target.rpartition(".")[0]
    if isinstance(cause, ModuleNotFoundError) and cause.name and f"{target}.".startswith(f"{cause.name}."):
        found = sys.modules.get(module)  # it is the last name that is wrong
        if found is not None and not hasattr(found, "__path__"):
            names = [name for name in vars(found) if not name.startswith("_")]
            return f": {module} has no {target.rpartition('.')[2]}; {one_of(target.rpartition('.')[2], names)}"
        return f"; check the name and the installation, and look for it in {Path.cwd()}"
    if cause is None or (isinstance(cause, AttributeError) and module in sys.modules):
        return "; check the name and the installation"
    if isinstance(cause, SyntaxError):
        return f": {cause.msg} ({cause.filename}, line {cause.lineno}); mend it"
    # The last place in a file that is read from a folder, not in what imports it.
    places = [one for one in traceback.extract_tb(cause.__traceback__) if not one.filename.startswith("<frozen")]
    own = [one for one in places[1:] if "site-packages" not in one.filename] or places
    return f": {kind_and_line(cause)} ({own[-1].filename}, line {own[-1].lineno}); mend it"
