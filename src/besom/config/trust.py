"""What of a recorded config may be built.

Whoever wrote a run into a store chose the `_target_` nodes of its config, and a target is code: what it names is called
with arguments that lie beside it. So of a config that was read back from a run, only this is built: the models, data
sets, networks, optimizers, schedulers, callbacks and loggers that Besom, torch and Lightning ship, and what the user
names. A name alone proves nothing, since a module's attributes lead anywhere (`torch.nn.functional.os.system`): what is
found under it is looked at as well, before anything is called. What a user composes himself is his own, and stays free.
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
from besom.config.messages import explain
from besom.config.shipped import home_of, is_named_like_shipped, is_shipped
from besom.config.targets import find_target, targets_in
from besom.errors import ConfigError, one_of
from besom.secrets.masks import PREFIX

FILE, VARIABLE = "besom.yaml", "BESOM_TRUST"
"""Where else a user says whom he trusts: a file in the current folder, and an environment variable."""

RECORDED_CODE = "recorded:code"
"""The name of what a run's record brings along itself: uncommitted changes, and packages to install."""

ON_THE_COMMAND_LINE = f"--trust {{0}}, or trust: [{{0}}] in {FILE}"
IN_PYTHON = f'trust=["{{0}}"], or trust: [{{0}}] in {FILE}'
WHERE_IT_IS_SERVED = f"{VARIABLE}={{0}} in the environment that serves it"

_ENTRY = re.compile(rf"[A-Za-z_]\w*(\.\w+)*|env:\w+|{RECORDED_CODE}")
_OPEN_VARIABLES = ("BESOM_DATA_DIR",)
"""What a recorded config may read of the environment in any case: the shipped configs do."""

_SEEN = "\N{BULLET}"
"""Stands for an interpolation that was looked at: no letter, so that it makes no name of what is around it."""
_KEY = re.compile(r"\$\{\.*[\w.\[\]-]*\}")
_READS = re.compile(r"\$\{oc\.env:(\w+)(,[^${}\\'\"]*)?\}")
_DECODES = re.compile(rf"\$\{{oc\.decode:\$\{{oc\.env:\w+(,[^${{}}\\'\"{_SEEN}]*)?\}}\}}")
"""Of a variable alone: it resolves once more what it decodes."""


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Whom the user trusts besides: packages, modules or single targets by name, `env:NAME`, RECORDED_CODE.

    `how` tells where to say so, `folder` where the run was trained.
    """

    names: tuple[str, ...] = ()
    how: str = ON_THE_COMMAND_LINE
    folder: str | None = None

    @classmethod
    def given(cls, names: Iterable[str] = (), *, how: str = ON_THE_COMMAND_LINE) -> Trust:
        """Return what these names and the user's own file and environment say together. Raises ConfigError."""
        if isinstance(names, str):
            names = [names]
        of_variable = [name for name in re.split(r"[,\s]+", os.environ.get(VARIABLE, "")) if name]
        said = {"trust": tuple(names), VARIABLE: of_variable, f"{FILE}: trust": _of_file(Path(FILE))}
        for where, some in said.items():
            for name in some:
                _check_entry(name, where)
        return cls(names=tuple(dict.fromkeys(name for some in said.values() for name in some)), how=how)

    def resolve(self, written: Mapping[str, Any], group: str | None = None) -> dict[str, Any]:
        """Return a recorded config, or a group of it, resolved: if it reads what it may, and names what may be built.

        References to its own keys are free; `${oc.env:NAME}` is to be trusted as env:NAME; other interpolations could
        run whatever the resolvers of this process run. Of the targets, the names alone are looked at, and nothing is
        imported. Raises ConfigError naming the key, what stands there, and where to trust it.
        """
        part = written if group is None else written.get(group)
        if not isinstance(part, Mapping):
            raise ConfigError(f"{group or 'config'}: the recorded config has none; take a run that Besom recorded")
        key = group or ""
        self._check_interpolations(written if any(_texts(part, key)) else part, key="")
        config = OmegaConf.create(dict(written))
        plain = resolved(config if group is None else config[group])
        for where, text in _texts(plain, key):  # what is built resolves it once more
            raise _refused_interpolation(where, text)
        self._check_names(plain, key)
        return plain

    def check(self, config: Any, key: str = "") -> None:
        """Refuse a resolved config by what is found under its targets' names, which this imports.

        What was trusted by a package's name must be defined there, what is shipped be meant to be built. Raises
        ConfigError as `resolve` does, and for what cannot be imported.
        """
        self._check_names(config, key)
        for where, target in targets_in(config, key):
            found = self._find(target, where)
            home = home_of(found)
            if target in self.names:
                continue
            if not (self._names(home) if self._names(target) else is_shipped(found)):
                raise self._refusal(where, target, f"is {home or 'no class and no function'}", home)

    def _check_names(self, config: Any, key: str) -> None:
        for where, target in targets_in(config, key):
            if not isinstance(target, str) or not (is_named_like_shipped(target) or self._names(target)):
                raise self._refusal(where, target, "is none of what Besom, torch and Lightning ship to be built")

    def _find(self, target: str, key: str) -> Any:
        package = target.partition(".")[0]
        if not _is_there(package):
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
        """Whether a name was given as it is."""
        return name in self.names

    def told(self, name: str) -> str:
        """Return where to say that a name is trusted."""
        return self.how.format(name)

    def _without_interpolations(self, text: str, where: str) -> str:
        for found in _READS.finditer(text):
            name = found[1]
            # One that stands for a secret has no other use than to be set for a run that is trained again.
            if not (name in _OPEN_VARIABLES or name.startswith(PREFIX) or f"env:{name}" in self.names):
                raise ConfigError(
                    f"{where}: the recorded config reads the environment variable {name}; "
                    f"if it may: {self.told(f'env:{name}')}"
                )
        for pattern in (_DECODES, _READS, _KEY):
            text = pattern.sub(_SEEN, text)
        return text

    def _names(self, target: str) -> bool:
        return any(_covers(name, target) for name in self.names)

    def _refusal(self, key: str, target: object, what: str, home: str = "") -> ConfigError:
        if not isinstance(target, str) or not re.fullmatch(r"\w+(\.\w+)*", target):
            return ConfigError(f"{key}: {target!r} is no target's name; train it from a config of your own")
        package = (home if self._names(target) else target).partition(".")[0]
        named = package if _lies_with_the_user(package) and package not in self.names else target
        return ConfigError(
            f"{key}: {target} {what}, and a recorded config is code; if you trust {named}: {self.told(named)}"
        )


SHIPPED = Trust()
"""Trust in nothing but what is shipped."""


def brought_along(config: Any) -> list[str]:
    """Return the targets in a config that neither Besom nor torch nor Lightning ships, by their names."""
    return list(dict.fromkeys(str(one) for _, one in targets_in(config) if not is_named_like_shipped(str(one))))


def needed_to_serve(config: Any) -> str | None:
    """Return in words what a served model with this config needs of where it is served; None of a shipped one."""
    own = brought_along(config)
    if not own:
        return None
    heads = {target: target.partition(".")[0] for target in own}
    packages = list(dict.fromkeys(heads.values()))
    trusted = dict.fromkeys(head if _lies_with_the_user(head) else target for target, head in heads.items())
    return (
        f"it is built by {', '.join(own)}: where it is loaded or served, {', '.join(packages)} must be importable "
        f"(PYTHONPATH), and {VARIABLE}={','.join(trusted)} be set"
    )


def flags(targets: Iterable[str]) -> list[str]:
    """Return the flags by which a command may build what these targets name, beyond what the user trusts in general."""
    try:
        given = Trust.given()
    except ConfigError:  # it is told of where something is to be built
        given = SHIPPED
    needed = [target for target in targets if not (is_named_like_shipped(target) or given._names(target))]
    heads = [(target, target.partition(".")[0]) for target in needed]
    return [
        f"--trust {one}" for one in dict.fromkeys(head if _lies_with_the_user(head) else one for one, head in heads)
    ]


def _refused_interpolation(key: str, text: str) -> ConfigError:
    return ConfigError(
        f"{key}: '{text}' holds an interpolation of another kind than keys and oc.env, which no recorded config may; "
        "train it from a config of your own"
    )


def _is_there(package: str) -> bool:
    """Whether a top-level package can be imported, as far as that shows without importing it."""
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _texts(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield the texts with interpolations, and their keys."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _texts(value, f"{key}[{index}]")
    elif isinstance(node, str) and "${" in node:
        yield key, node


def _covers(name: str, target: str) -> bool:
    """Whether trust in a name is trust in a target: of Python's own modules, in that target alone."""
    return target == name or (target.startswith(f"{name}.") and not _is_pythons(name))


def _is_pythons(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def _lies_with_the_user(package: str) -> bool:
    """Whether a top-level package is neither installed nor Python's own: then it is the project's, or not there."""
    if _is_pythons(package) or package in ("besom", "hydra_plugins"):
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
