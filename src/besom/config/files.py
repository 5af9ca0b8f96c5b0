"""The checks of a config file as written, before Hydra reads it.

They refuse, by file and key, what Hydra and OmegaConf would report with a traceback or not at all: keys and defaults
that are not names, aliases that expand too far, circular defaults.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import grammar_parser
from omegaconf.errors import GrammarParseError
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from besom.config.messages import composing
from besom.config.paths import SearchPath, current_search_path
from besom.errors import ConfigError

_MOST_ADDED = 10_000
"""Largest number of values that a file's aliases may add to the written ones."""

# The C parser needs a tenth of the time; not every build of PyYAML has it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KEYWORDS = ("optional", "override")


@contextmanager
def checked(file: Path, path: str) -> Iterator[None]:
    """Check a file before Hydra reads it in the block; `path` is its name on the search path: `experiment/line`.

    Invalid YAML passes: its reader reports where it is damaged. Raises ConfigError naming the file and the key.
    """
    path = path.removesuffix(".yaml")
    search = current_search_path() or SearchPath()
    with composing(f"{path}.yaml"):
        try:
            configs = _configs_in(file.read_text(encoding="utf-8"), path)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}.yaml: it is not UTF-8; save it as UTF-8") from error
        except ConfigError as error:
            raise ConfigError(f"{path}.yaml: {error}") from error
        search.named_in.update((config.name, f"{path}.yaml") for config in configs)
        search.leads_to[path] = tuple(config.name for config in configs if not config.is_override)
        if (cycle := _cycle(path, search.leads_to)) is not None:
            chain = " -> ".join(f"{name}.yaml" for name in cycle)
            raise ConfigError(f"{path}.yaml: defaults: lead back to itself ({chain}); take that line out")
        yield


@dataclass(frozen=True)
class _Default:
    """A config in a defaults list; as an override, it is read where another list has its group."""

    name: str
    is_override: bool = False


@lru_cache(maxsize=1024)  # Hydra reads a file anew for each composition
def _configs_in(text: str, path: str) -> tuple[_Default, ...]:
    """Return the configs in a file's defaults. Raises ConfigError naming the key."""
    try:
        root = yaml.compose(text, Loader=_LOADER)
        if not isinstance(root, MappingNode):
            return ()
        _check_aliases(root)
        _check_nodes(root)
    except yaml.YAMLError:
        return ()
    except RecursionError as error:
        raise ConfigError("it is nested too deeply for YAML; flatten it") from error
    inside = {str(key.value): value for key, value in root.value}
    _check_sweeper(inside)
    return tuple(_defaults(inside["defaults"], path.rpartition("/")[0])) if "defaults" in inside else ()


def _check_sweeper(inside: Mapping[str, Node]) -> None:
    """Refuse `hydra` and `hydra.sweeper` without keys: Hydra would report an override of theirs instead of the file."""
    for where in ("hydra", "hydra.sweeper"):
        *_, name = where.split(".")
        if name not in inside:
            return
        node = inside[name]
        if not isinstance(node, MappingNode):
            raise ConfigError(
                f"{where}: it holds KEY: VALUE lines, not a value or a list; write such as "
                "hydra: {sweeper: {n_trials: 40}}"
            )
        inside = {str(key.value): value for key, value in node.value}


def _check_aliases(root: MappingNode) -> None:
    sizes: dict[Node, int] = {}
    total = _size(root, sizes, set())
    if total - len(sizes) > _MOST_ADDED:
        key, value = max(root.value, key=lambda pair: sizes[pair[1]])
        raise ConfigError(
            f"{key.value}: its aliases make {sizes[value]:,} values of the {len(sizes):,} that are written in the "
            "file; write out what is meant"
        )


def _size(node: Node, sizes: dict[Node, int], ancestors: set[Node]) -> int:
    """Return the number of values in a node, with its aliases expanded; each node is counted once."""
    if node in sizes:
        return sizes[node]
    if node in ancestors:
        line = node.start_mark.line + 1
        raise ConfigError(f"line {line}: an alias stands inside of what it is an alias of; write out what is meant")
    inner: list[Node] = []
    if isinstance(node, MappingNode):
        inner = [one for pair in node.value for one in pair]
    elif isinstance(node, SequenceNode):
        inner = node.value
    ancestors.add(node)
    sizes[node] = 1 + sum(_size(one, sizes, ancestors) for one in inner)
    ancestors.remove(node)
    return sizes[node]


def _check_nodes(node: Node, place: str = "", seen: set[Node] | None = None) -> None:
    """Refuse keys and interpolations that OmegaConf does not accept, and at the top level keys that are not words."""
    seen = set() if seen is None else seen
    if node in seen:
        return
    seen.add(node)
    if isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            _check_nodes(item, f"{place}[{index}]", seen)
    if isinstance(node, ScalarNode) and "${" in node.value and _is(node, "str"):
        _check_interpolation(node.value, place)
    if not isinstance(node, MappingNode):
        return
    for key, value in node.value:
        if isinstance(key, ScalarNode):
            where = f"{place}.{_shown(key)}" if place else _shown(key)
            if _is(key, "null") or (not place and (not key.value or not _is(key, "str", "merge"))):
                raise ConfigError(f"{where}: a key is a word, and this is none; name it, or take the line out")
            _check_nodes(value, where, seen)


def _check_interpolation(text: str, place: str) -> None:
    try:
        grammar_parser.parse(text)
    except GrammarParseError as error:
        raise ConfigError(f"{place}: '{text}' is no interpolation; write ${{NAME}}, or \\${{ for the text") from error


def _is(node: Node, *kinds: str) -> bool:
    return str(node.tag).rpartition(":")[2] in kinds


def _shown(node: ScalarNode) -> str:
    """Return a scalar as written, or as null or '' if it is empty."""
    return node.value or ("null" if _is(node, "null") else "''")


def _defaults(node: Node, folder: str) -> Iterator[_Default]:
    """Yield the configs in a defaults list; `folder` is that of its file."""
    if not isinstance(node, SequenceNode):
        raise ConfigError("defaults: a list is needed; write each on a line of its own, such as - train")
    taken: set[str] = set()
    for index, item in enumerate(node.value):
        if (choice := _choice(item)) in taken:
            raise ConfigError(f"defaults[{index}]: '{choice}' is there twice; take one out")
        taken.add(choice)
        yield from _entry(item, folder, f"defaults[{index}]")


def _choice(item: Node) -> str:
    """Return the group that an entry of a defaults list chooses from, or the config that it names."""
    if isinstance(item, MappingNode) and len(item.value) == 1:
        item = item.value[0][0]
        return str(item.value).removeprefix("optional ") if isinstance(item, ScalarNode) else ""
    return str(item.value) if isinstance(item, ScalarNode) else ""


def _entry(item: Node, folder: str, where: str) -> Iterator[_Default]:
    if isinstance(item, ScalarNode):
        name = _word(item, where, "train or data: digits")
        if name.rpartition("/")[2].partition("@")[0] == "???":
            raise ConfigError(f"{where}: '???' names no config; name one, or take the line out")
        if name != "_self_":
            yield from _path(name, folder)
        return
    if not isinstance(item, MappingNode) or len(item.value) != 1:
        raise ConfigError(f"{where}: one config, or one GROUP: NAME, is needed; such as train or data: digits")
    ((key, value),) = item.value
    *keywords, group = _word(key, where, "data: digits").split(" ")
    if not re.fullmatch(r"/*\w.*", group.partition("@")[0]) or any(word not in _KEYWORDS for word in keywords):
        raise ConfigError(f"{where}: '{key.value}' names no group; write it as data, or override data")
    where = f"{where}.{group}"
    names = value.value if isinstance(value, SequenceNode) else [value]
    for name_node in names:
        if value is name_node and _is(name_node, "null"):
            continue  # no config of this group
        name = _word(name_node, where, f"{group}: NAME")
        if name != "???":
            yield from _path(f"{group.partition('@')[0]}/{name}", folder, is_override="override" in keywords)


def _word(node: Node, where: str, example: str) -> str:
    if isinstance(node, ScalarNode) and _is(node, "str") and node.value.strip():
        return str(node.value)
    shown = f"'{_shown(node)}'" if isinstance(node, ScalarNode) else "a list or a mapping"
    raise ConfigError(f"{where}: {shown} is no name of a config; write such as {example}, in quotes if it is a number")


def _path(name: str, folder: str, *, is_override: bool = False) -> Iterator[_Default]:
    """Yield a config by its name on the search path; the name may hold an interpolation that Hydra resolves later."""
    name = name.partition("@")[0].removesuffix(".yaml")
    if name:
        yield _Default(name[1:] if name.startswith("/") else f"{folder}/{name}".lstrip("/"), is_override)


def _cycle(start: str, leads_to: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return the chain of defaults from a config back to itself, or None."""
    chains, seen = [[start]], set()
    while chains:
        chain = chains.pop()
        for name in leads_to.get(chain[-1], ()):
            if name == start:
                return [*chain, name]
            if name not in seen:
                seen.add(name)
                chains.append([*chain, name])
    return None
