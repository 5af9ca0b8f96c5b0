"""Config files that were torn by chance: one mutation of a shipped sweep or config, as a user's slip of the hand."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from besom.config.paths import conf_dir, sweeps_dir

NAME = "torn"

# What stands where something else belongs. Each is a file's text, since YAML has more than Python's values.
VALUES = (
    "", "null", "''", "true", "-1", "0", "1.5", "1e400", "-.inf", ".nan", "1000000000000000000000000000000", "[]", "{}",
    "[null]", "{'': 1}", "{null: 1}", "[[1, 2], [3]]", "???", "${seed}", "${nothing}", "'${hydra:runtime.cwd}'",
    "'${oc.env:NOTHING_OF_THAT_NAME}'", "'${'", "choice()", "choice(1, 2)", "'interval(1, 0)'", "range(1, 4)", "a b",
    "'a: b'", "/", ".", "../..", "é", "'#'", "'\\0'", "!!binary aGVsbG8=", "2026-01-01", "0x10", "yes", "*nothing",
)  # fmt: skip
KEYS = (
    "null",
    "''",
    "1.5",
    "3",
    "true",
    "'a b'",
    "a.b",
    "${seed}",
    "'${'",
    "[a]",
    "+a",
    "~a",
    "a@b",
    "/",
    ".",
    "_target_",
)
SNIPPETS = (
    "\t", ": ", "- ", "'", '"', "{", "}", "[", "]", "#", "&a ", "*a ", "\n", "|", ">", "!!python/none ", "%", "@", "`",
    "\x00", "\xa0", "override ", "optional ", "_self_",
)  # fmt: skip
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@dataclass(frozen=True)
class Torn:
    """A file that was torn: what was done to it, its text, its group of configs, or none for a sweep."""

    what: str
    text: str
    group: str | None

    def write(self, folder: Path) -> list[str]:
        """Write it under a folder; return the arguments of `besom sweep` that read it."""
        if self.group is None:
            self._write(folder / f"sweeps/{NAME}.yaml")
            return [str(folder / f"sweeps/{NAME}.yaml")]
        self._write(folder / f"conf/{self.group}/{NAME}.yaml")
        chosen = f"+{self.group}={NAME}" if self.group == "experiment" else f"{self.group}={NAME}"
        return ["digits", "--config-dir", str(folder / "conf"), chosen.removeprefix("+")]

    def _write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.text, encoding="utf-8")


def torn_files(seed: int) -> Iterator[Torn]:
    """Yield torn files without end, the same ones for the same seed."""
    draw = random.Random(seed)
    sweeps = [(path, None) for path in sorted(sweeps_dir().glob("*.yaml"))]
    configs = [(path, path.parent.name) for path in sorted(conf_dir().glob("*/*.yaml"))]
    while True:
        path, group = draw.choice(sweeps) if draw.random() < 0.7 else draw.choice(configs)
        written = path.read_text(encoding="utf-8")
        mutate = draw.choice((*(_in_tree,) * 4, _in_text))
        what, text = mutate(written, draw)
        yield Torn(f"{path.parent.name}/{path.name}: {what}", text, group)


def _in_text(text: str, draw: random.Random) -> tuple[str, str]:
    """Slip on the keyboard: something is missing, too much, or in the wrong place."""
    place = draw.randrange(len(text) + 1)
    lines = text.splitlines(keepends=True)
    line = draw.randrange(len(lines))
    match draw.randrange(6):
        case 0:
            snippet = draw.choice(SNIPPETS)
            return f"{snippet!r} at {place}", text[:place] + snippet + text[place:]
        case 1:
            return f"cut at {place}", text[:place]
        case 2:
            return f"without its character {place}", text[:place] + text[place + 1 :]
        case 3:
            return f"without line {line + 1}", "".join(lines[:line] + lines[line + 1 :])
        case 4:
            return f"line {line + 1} twice", "".join([*lines[: line + 1], *lines[line:]])
    indented = " " * draw.randint(1, 3) + lines[line]
    return f"line {line + 1} indented", "".join([*lines[:line], indented, *lines[line + 1 :]])


def _in_tree(text: str, draw: random.Random) -> tuple[str, str]:
    """Write something else where a key or a value stands, take it away, or put it elsewhere."""
    tree = yaml.safe_load(text)
    if not isinstance(tree, dict) or not tree:
        return "with a bomb", text + BOMB
    place, parent, key = draw.choice(list(_places(tree, "")))
    what = draw.choice((*(_other_value,) * 4, *(_other_key,) * 2, _without, _twice, _wrapped, _moved, _bomb))
    told = what(tree, parent, key, draw)
    return f"{place}: {told}", _dump(tree)


def _places(node: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        where = f"{place}.{key}" if place else str(key)
        yield where, node, key
        yield from _places(value, where)


class _Raw:
    """A piece of YAML as it is written."""

    def __init__(self, text: str) -> None:
        self.text = text


Mutation = Callable[[Any, Any, Any, random.Random], str]


def _other_value(tree: Any, parent: Any, key: Any, draw: random.Random) -> str:
    text = draw.choice(VALUES)
    parent[key] = _Raw(text)
    return f"is {text}"


def _other_key(tree: Any, parent: Any, key: Any, draw: random.Random) -> str:
    text = draw.choice(KEYS)
    if isinstance(parent, list):
        parent[key] = {_Raw(text): parent[key]}
        return f"lies under {text}"
    items = [(_Raw(text) if one == key else one, value) for one, value in parent.items()]
    parent.clear()
    parent.update(items)
    return f"is called {text}"


def _without(tree: Any, parent: Any, key: Any, draw: random.Random) -> str:
    del parent[key]
    return "is gone"


def _twice(tree: Any, parent: Any, key: Any, draw: random.Random) -> str:
    if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    else:
        parent[_Raw(str(key))] = copy.deepcopy(parent[key])
    return "is there twice"


def _wrapped(tree: Any, parent: Any, key: Any, draw: random.Random) -> str:
    parent[key] = [parent[key]] if draw.random() < 0.5 else {"inner": parent[key]}
    return "lies one deeper"


def _moved(tree: Any, parent: Any, key: Any, draw: random.Random) -> str:
    value = copy.deepcopy(parent[key])
    place, other, where = draw.choice(list(_places(tree, "")))
    other[where] = value
    return f"stands at {place} as well"


def _bomb(tree: Any, parent: Any, key: Any, draw: random.Random) -> str:
    parent[key] = _Raw(
        draw.choice(("&a [*a]", "{<<: 3}", "&a {<<: *a}", f"[{', '.join(['&b [x, x]'] + ['*b'] * 9_000)}]"))
    )
    return "is a bomb"


def _dump(node: Any) -> str:
    """Write a tree as YAML in one line a key; what is raw, as it is."""
    return "".join(f"{_flow(key)}: {_flow(value)}\n" for key, value in node.items())


def _flow(node: Any) -> str:
    match node:
        case _Raw(text=text):
            return text
        case dict():
            return "{" + ", ".join(f"{_flow(key)}: {_flow(value)}" for key, value in node.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, node)) + "]"
        case str() if "${" not in node:
            return "'" + node.replace("'", "''") + "'"
    return yaml.safe_dump(node, width=10_000, default_flow_style=True).removesuffix("\n").removesuffix("\n...")


_RIDDLES = (
    "Traceback",
    "NoneType",
    "ConfigCompositionException",
    " a key: ",
    "object has no attribute",
    "the config as a whole",
)


# A line, an entry of a defaults list, a dotted key, or one of the keys that a sweep or a config has at its top.
_PLACE = re.compile(
    r"line \d+|the header|defaults|a key is a word|\w+\.\w+|"
    r"\b(seed|objective|direction|data|source|model|optimizer|scheduler|trainer|tracking|hydra|params|when|early_stopping|evaluation)\b"
)


def riddle(code: int, told: str) -> str | None:
    """Return what is unclear about how a command ended, given its stderr; None where file and place are plain."""
    lines = told.splitlines()
    if code == 0:
        return None
    if code != 2:
        return f"exit code {code}"
    if not 1 <= len(lines) <= 3:
        return f"{len(lines)} lines"
    if found := next((one for one in _RIDDLES if one in told), None):
        return f"it says '{found}'"
    if ".yaml: " not in told:
        return "it names no file"
    return None if _PLACE.search(told.partition(".yaml: ")[2]) else "it names no key"
