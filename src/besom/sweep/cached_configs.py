"""Trials' configs as plain values, cached: OmegaConf takes milliseconds per copy, and most trials differ in few leaves.

The config of the first trial with some choices of config groups and sampled keys is composed, completed for its slot,
resolved and made recordable. It is the template of later ones, which differ in the sampled leaves only. If a sampled
key may be referenced elsewhere in the config, each trial's config is made from scratch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from besom.config.checks import recordable, resolved
from besom.config.messages import explain
from besom.errors import ConfigError
from besom.secrets.masks import hidden
from besom.sweep.compose import Composer
from besom.sweep.space.search_space import Params
from besom.sweep.trials.trial import WRITTEN_BY_SLOT, for_slot
from besom.workers.devices import Slot

Plain = dict[str, Any]

_RESOLVER = re.compile(r"\$\{\s*(?!oc\.)[\w.]+\s*:")


class CachedConfigs:
    """Makes the configs of trials, from templates where possible."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._templates: dict[tuple[tuple[str, ...], tuple[str, ...]], _Template] = {}

    def of(self, params: Params) -> CachedConfig:
        """Return the config of a trial with these parameters.

        Raises ConfigError naming the key that does not exist or the value that does not fit.
        """
        line, values = self._composer.split(params)
        kind = line, tuple(values)
        template = self._templates.get(kind)
        if template is None or not all(map(_is_leaf, values.values())):
            template = _Template(self._composer.compose(params))
            if all(template.may_change(key) and _is_leaf(value) for key, value in values.items()):
                self._templates[kind] = template
            else:
                values = {}  # the template is for this trial alone and has them
        return CachedConfig(template, template.accept(values))


class CachedConfig:
    """The config of a trial whose slot is not known yet."""

    def __init__(self, template: _Template, values: Plain) -> None:
        self._template = template
        self._values = values

    @cached_property
    def config(self) -> Plain:
        """The resolved config; raises ConfigError when it cannot be resolved."""
        return _with(self._template.resolved, self._values)

    def written_for(self, slot: Slot) -> tuple[Plain, Plain]:
        """Return the config for a worker in this slot, and the recordable one. Raises ConfigError as `config` does."""
        config, recorded = self._template.written_for(slot)
        recordable = {key: hidden(key, value) for key, value in self._values.items()}
        return _with(config, self._values), _with(recorded, recordable)


class _Template:
    """A composed config that others equal except for some leaves, whose current values do not matter."""

    def __init__(self, config: DictConfig) -> None:
        self._config = config
        self._written: dict[tuple[int, str, int], tuple[Plain, Plain]] = {}

    @cached_property
    def resolved(self) -> Plain:
        return resolved(self._config)

    def written_for(self, slot: Slot) -> tuple[Plain, Plain]:
        kind = slot.threads, slot.device.kind, len(slot.devices)
        if kind not in self._written:
            config = for_slot(self._config, slot, test=False)
            self._written[kind] = resolved(config), recordable(config)
        return self._written[kind]

    def may_change(self, key: str) -> bool:
        """Return whether a key is a leaf that, judging by its name, nothing else in the config references."""
        if any(f"{other}.".startswith(f"{key}.") for other in WRITTEN_BY_SLOT):
            return False
        node: Any = self._text
        *path, leaf = key.split(".")
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        names = re.compile("|".join(rf"\b{re.escape(part)}\b" for part in (*path, leaf)))
        return (
            isinstance(node, dict)
            and _is_leaf(node.get(leaf))
            and not any(names.search(text) or _RESOLVER.search(text) for text in self._references)
        )

    def accept(self, values: Params) -> Plain:
        """Return the values converted to the config's types. Raises ConfigError for one that does not fit."""
        try:
            for key, value in values.items():
                OmegaConf.update(self._config, key, value, merge=True)
        except OmegaConfBaseException as error:
            raise ConfigError(explain(error)) from error
        chosen = {key: OmegaConf.select(self._config, key) for key in values}
        return {
            key: OmegaConf.to_container(value) if OmegaConf.is_list(value) else value for key, value in chosen.items()
        }

    @cached_property
    def _text(self) -> Any:
        return OmegaConf.to_container(self._config, resolve=False)

    @cached_property
    def _references(self) -> list[str]:
        return [text for text in _texts(self._text) if "${" in text]


def _is_leaf(value: Any) -> bool:
    if isinstance(value, list):
        return not any(isinstance(item, list) for item in value) and all(map(_is_leaf, value))
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and "${" not in value)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)
    elif isinstance(node, str):
        yield node


def _with(config: Plain, values: Mapping[str, Any]) -> Plain:
    """Return a config with other values at some leaves; all other nodes are shared."""
    changed = dict(config)
    for key, value in values.items():
        *path, leaf = key.split(".")
        node = changed
        for part in path:
            node[part] = dict(node[part])
            node = node[part]
        node[leaf] = value
    return changed
