"""The rules for which targets of a recorded config may be built.

Whoever wrote a run into a store chose the `_target_` nodes of its config, and a target is code: it is called with the
arguments next to it. So for a config that was read from a run, only these are built: the models, data sets, networks,
optimizers, schedulers, callbacks and loggers that Besom, torch and Lightning ship, and the targets that the user
trusts. A name alone proves nothing, since a module's attributes lead anywhere (`torch.nn.functional.os.system`): the
imported object is checked as well, before anything is called. Configs that the user composes are not restricted.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from besom.config.checks import resolved
from besom.config.extras.groups import check_places
from besom.config.messages import explain
from besom.config.targets.check import find_target, targets_in
from besom.config.targets.shipped import home_of, is_named_like_shipped, is_shipped
from besom.errors import ConfigError, one_of
from besom.secrets.masks import PREFIX

FILE, VARIABLE = "besom.yaml", "BESOM_TRUST"
"""Where else a user can name trusted packages: a file in the current folder, and an environment variable."""

RECORDED_CODE = "recorded:code"
"""The trust entry for the code in a run's record: uncommitted changes, and packages to install."""

_ON_THE_COMMAND_LINE = f"--trust {{0}}, or trust: [{{0}}] in {FILE}"
IN_PYTHON = f'trust=["{{0}}"], or trust: [{{0}}] in {FILE}'
WHERE_IT_IS_SERVED = f"{VARIABLE}={{0}} in the environment that serves it"

_ENTRY = re.compile(rf"[A-Za-z_]\w*(\.\w+)*|env:\w+|{RECORDED_CODE}")
_OPEN_VARIABLES = ("BESOM_DATA_DIR",)
"""The environment variables that a recorded config may always read: the shipped configs do."""

_SEEN = "\N{BULLET}"
"""The placeholder of a checked interpolation: not a letter, so that it makes no name of the text around it."""
_KEY = re.compile(r"\$\{\.*[\w.\[\]-]*\}")
_READS = re.compile(r"\$\{oc\.env:(\w+)(,[^${}\\'\"]*)?\}")
_DECODES = re.compile(rf"\$\{{oc\.decode:\$\{{oc\.env:\w+(,[^${{}}\\'\"{_SEEN}]*)?\}}\}}")
"""A decoded environment variable, and nothing else: oc.decode resolves its result once more."""


@dataclass(frozen=True, kw_only=True)
class Trust:
    """The user's trust beyond shipped targets: packages, modules or single targets by name, `env:NAME`, RECORDED_CODE.

    `how` is the instruction in messages to declare trust, `folder` the folder where the run was trained.
    """

    names: tuple[str, ...] = ()
    how: str = _ON_THE_COMMAND_LINE
    folder: str | None = None

    @classmethod
    def given(cls, names: Iterable[str] = (), *, how: str = _ON_THE_COMMAND_LINE) -> Trust:
        """Return the trust in these names and those of the user's file and environment. Raises ConfigError."""
        if isinstance(names, str):
            names = [names]
        of_variable = [name for name in re.split(r"[,\s]+", os.environ.get(VARIABLE, "")) if name]
        sources = {"trust": tuple(names), VARIABLE: of_variable, f"{FILE}: trust": _of_file(Path(FILE))}
        for where, entries in sources.items():
            for name in entries:
                _check_entry(name, where)
        return cls(names=tuple(dict.fromkeys(name for entries in sources.values() for name in entries)), how=how)

    def resolve(self, written: Mapping[str, Any], group: str | None = None) -> dict[str, Any]:
        """Return a recorded config, or a group of it, resolved, if its interpolations and target names are allowed.

        References to its own keys are allowed; `${oc.env:NAME}` needs trust in env:NAME; other interpolations could run
        any resolver of this process. Only the names of targets are checked here, and nothing is imported. A whole
        config may not name places for files outside of the trial's folder. Raises ConfigError naming the key, its
        value, and where to declare trust.
        """
        part = written if group is None else written.get(group)
        if not isinstance(part, Mapping):
            raise ConfigError(f"{group or 'config'}: the recorded config has none; take a run that Besom recorded")
        key = group or ""
        self._check_interpolations(written if any(_texts(part, key)) else part, key="")
        config = OmegaConf.create(dict(written))
        plain = resolved(config if group is None else config[group])
        for where, text in _texts(plain, key):  # instantiating would resolve it once more
            raise _refused_interpolation(where, text)
        self._check_names(plain, key)
        if group is None:
            check_places(plain)
        return plain

    def check(self, config: Any, key: str = "") -> None:
        """Refuse a resolved config by the objects that its targets name, which this imports.

        An object that is trusted by a package's name must be defined there, a shipped one must be meant to be built.
        Raises ConfigError as `resolve` does, and for a target that cannot be imported.
        """
        self._check_names(config, key)
        for where, target in targets_in(config, key):
            named = self._find(target, where)
            home = home_of(named)
            if target in self.names:
                continue
            if not (self._covers_target(home) if self._covers_target(target) else is_shipped(named)):
                raise self._refusal(where, target, f"is {home or 'no class and no function'}", home)

    def check_written(self, written: Mapping[str, Any]) -> None:
        """Refuse a part of a recorded config, such as an override, as `resolve` does, without resolving it."""
        self._check_interpolations(written, key="")
        self._check_names(written, key="")

    def covers(self, name: str) -> bool:
        """Return whether a name, or the package in which it is, is trusted."""
        return self._covers_target(name)

    def _check_names(self, config: Any, key: str) -> None:
        for where, target in targets_in(config, key):
            if not isinstance(target, str) or not (is_named_like_shipped(target) or self._covers_target(target)):
                raise self._refusal(where, target, "is none of what Besom, torch and Lightning ship to be built")

    def _find(self, target: str, key: str) -> Any:
        package = target.partition(".")[0]
        if not _is_importable(package):
            there = f"the run was trained in {self.folder}: go there, or put" if self.folder else "put"
            raise ConfigError(
                f"{key}: {target} is not found, there is no package {package} here; {there} the folder that holds it "
                "on PYTHONPATH"
            )
        return find_target(target, key)

    def _check_interpolations(self, written: Any, key: str) -> None:
        for where, text in _texts(written, key):
            left = text
            while (shorter := self._without_interpolations(left, where)) != left:
                left = shorter
            if "${" in left:
                raise _refused_interpolation(where, text)

    def trusts(self, name: str) -> bool:
        """Return whether exactly this name is trusted."""
        return name in self.names

    def instruction(self, name: str) -> str:
        """Return the instruction to trust a name."""
        return self.how.format(name)

    def _without_interpolations(self, text: str, where: str) -> str:
        for found in _READS.finditer(text):
            name = found[1]
            # A variable for a secret is only ever set to train the recorded config again.
            if not (name in _OPEN_VARIABLES or name.startswith(PREFIX) or f"env:{name}" in self.names):
                raise ConfigError(
                    f"{where}: the recorded config reads the environment variable {name}; "
                    f"if it may: {self.instruction(f'env:{name}')}"
                )
        for pattern in (_DECODES, _READS, _KEY):
            text = pattern.sub(_SEEN, text)
        return text

    def _covers_target(self, target: str) -> bool:
        return any(_covers(name, target) for name in self.names)

    def _refusal(self, key: str, target: object, what: str, home: str = "") -> ConfigError:
        if not isinstance(target, str) or not re.fullmatch(r"\w+(\.\w+)*", target):
            return ConfigError(f"{key}: {target!r} is no target's name; train it from a config of your own")
        package = (home if self._covers_target(target) else target).partition(".")[0]
        named = package if _is_local(package) and package not in self.names else target
        return ConfigError(
            f"{key}: {target} {what}, and a recorded config is code; if you trust {named}: {self.instruction(named)}"
        )


SHIPPED = Trust()
"""Trust in shipped targets only."""


def user_targets(config: Any) -> list[str]:
    """Return the names of the targets in a config that neither Besom nor torch nor Lightning ships."""
    return list(
        dict.fromkeys(str(target) for _, target in targets_in(config) if not is_named_like_shipped(str(target)))
    )


def needed_to_serve(config: Any) -> str | None:
    """Return the requirements of a served model with this config, in words; None for a shipped one."""
    own = user_targets(config)
    if not own:
        return None
    heads = {target: target.partition(".")[0] for target in own}
    packages = list(dict.fromkeys(heads.values()))
    trusted = dict.fromkeys(head if _is_local(head) else target for target, head in heads.items())
    return (
        f"it is built by {', '.join(own)}: where it is loaded or served, {', '.join(packages)} must be importable "
        f"(PYTHONPATH), and {VARIABLE}={','.join(trusted)} be set"
    )


def trust_flags(targets: Iterable[str]) -> list[str]:
    """Return the flags that let a command build these targets, beyond the user's general trust."""
    try:
        trust = Trust.given()
    except ConfigError:  # building will report it
        trust = SHIPPED
    needed = [target for target in targets if not (is_named_like_shipped(target) or trust._covers_target(target))]
    heads = [(target, target.partition(".")[0]) for target in needed]
    return [f"--trust {name}" for name in dict.fromkeys(head if _is_local(head) else target for target, head in heads)]


def _refused_interpolation(key: str, text: str) -> ConfigError:
    return ConfigError(
        f"{key}: '{text}' holds an interpolation of another kind than keys and oc.env, which no recorded config may; "
        "train it from a config of your own"
    )


def _is_importable(package: str) -> bool:
    """Return whether a top-level package can be imported, as far as known without importing it."""
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _texts(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield the keys and texts of all values with interpolations."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _texts(value, f"{key}[{index}]")
    elif isinstance(node, str) and "${" in node:
        yield key, node


def _covers(name: str, target: str) -> bool:
    """Return whether trust in a name covers a target; a name of Python's own modules covers only itself."""
    return target == name or (target.startswith(f"{name}.") and not _is_stdlib(name))


def _is_stdlib(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def _is_local(package: str) -> bool:
    """Return whether a top-level package is neither installed nor Python's: the project's own, or missing."""
    if _is_stdlib(package) or package in ("besom", "hydra_plugins"):
        return False
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")]
    places = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or ())]
    return not any(Path(place).resolve().is_relative_to(one) for place in places if place for one in installed)


def _check_entry(name: object, where: str) -> None:
    if not isinstance(name, str) or not _ENTRY.fullmatch(name):
        raise ConfigError(f"{where}: {name!r} is no package's name; write a package, such as net, or env:NAME")
    if name in sys.stdlib_module_names:
        raise ConfigError(f"{where}: {name} is Python's own, with all that Python can do; name the one thing in it")


def _of_file(path: Path) -> list[Any]:
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); mend it") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {explain(error)}") from error
    if written is None:
        return []
    if not isinstance(written, dict):
        raise ConfigError(f"{path}: it holds no keys; write trust: [package]")
    if other := [str(key) for key in written if key != "trust"]:
        raise ConfigError(f"{path}: there is no key {other[0]}; {one_of(other[0], ['trust'])}")
    trusted = written["trust"]
    if not isinstance(trusted, list):
        raise ConfigError(f"{path}: trust: {trusted!r} is no list; write trust: [package]")
    return trusted
