"""Configs that differ in one option of a config group, without composing each: a group may have a hundred files.

Hydra composes the first few. If each is what the option's file has at the place of its group, and nothing else sets
anything there, the configs of the other options are made by replacing that place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

_COMPOSED_FIRST = 4

_CHOICE = re.compile(r"(\+?)([\w/]+)=([\w.-]+)", re.ASCII)

Overrides = tuple[str, ...]
Compose = Callable[[Overrides], DictConfig | str]
"""Composes by Hydra; returns the config without its `hydra` node, or the error message."""


class OptionConfigs:
    """Makes configs from those of other options of a group; `chooses` says whether a key is that of a group."""

    def __init__(self, loader: ConfigLoader, compose: Compose, chooses: Callable[[str], bool]) -> None:
        self._loader = loader
        self._compose = compose
        self._chooses = chooses
        self._groups: dict[tuple[int, str, Overrides], _Group] = {}

    def of(self, overrides: Overrides) -> DictConfig | None:
        """Return the config for these overrides; None if Hydra has to compose it."""
        return next((config for group, option in self._choices(overrides) if (config := group.config(option))), None)

    def add(self, overrides: Overrides, config: DictConfig | str) -> None:
        """Keep a config that Hydra has composed; do nothing for an error message."""
        if isinstance(config, str):
            return
        for group, option in self._choices(overrides):
            group.samples.setdefault(option, config)

    def _choices(self, overrides: Overrides) -> list[tuple[_Group, str]]:
        found = []
        for index, text in enumerate(overrides):
            choice = _CHOICE.fullmatch(text)
            if choice is None or not self._chooses(choice[2]):
                continue
            others = (*overrides[:index], *overrides[index + 1 :])
            without = others if choice[1] else (*others, f"~{choice[2]}")
            key = index, choice[2], others
            if key not in self._groups:
                self._groups[key] = _Group(self._loader, choice[2], partial(self._compose, without))
            found.append((self._groups[key], choice[3]))
        return found


class _Group:
    """A config group beside other overrides; `samples` are configs by option, which Hydra composed."""

    def __init__(self, loader: ConfigLoader, name: str, without: Callable[[], DictConfig | str]) -> None:
        self.samples: dict[str, DictConfig] = {}
        self._loader: Any = loader
        self._name = name
        self._place = name.replace("/", ".")
        self._without = without
        self._is_plain: bool | None = None

    def config(self, option: str) -> DictConfig | None:
        """Return the config with this option, None if it cannot be made from the samples."""
        if len(self.samples) < _COMPOSED_FIRST:
            return None
        if self._is_plain is None:
            self._is_plain = self._check()
        return self._replaced(option) if self._is_plain else None

    def _check(self) -> bool:
        """Return whether only the option's file sets anything at its place, and the option nothing elsewhere."""
        without = self._without()
        if isinstance(without, str) or OmegaConf.select(without, self._place) is not None:
            return False
        return all(_same(self._replaced(option), config) for option, config in self.samples.items())

    def _replaced(self, option: str) -> DictConfig | None:
        content = self._file(option)
        if content is None:
            return None
        config = next(iter(self.samples.values())).copy()
        try:
            with open_dict(config):
                OmegaConf.update(config, self._place, content, merge=False)
        except OmegaConfBaseException:
            return None
        return config

    def _file(self, option: str) -> DictConfig | None:
        """Return the content of an option's file; None if it has defaults, a package or a schema of its own."""
        path, repository = f"{self._name}/{option}", self._loader.repository
        loaded = repository.load_config(config_path=path)
        if loaded is None or repository.get_schema_source().is_config(path):
            return None
        is_alone = all(default.is_self() for default in loaded.defaults_list or ())
        if not (is_alone and isinstance(loaded.config, DictConfig)) or loaded.header.get("package") is not None:
            return None
        return None if "defaults" in loaded.config else loaded.config


def _same(one: DictConfig | None, other: DictConfig) -> bool:
    return one is not None and OmegaConf.to_container(one) == OmegaConf.to_container(other)
