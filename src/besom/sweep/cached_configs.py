"""Trials' configs as plain values. OmegaConf takes milliseconds for each copy; most trials differ in a few leaves.

The first trial of a kind, with its choices of config groups and its sampled keys, goes the whole way: composed,
written for its slot, resolved, made recordable. The next ones differ from it in the sampled leaves alone, unless what
is sampled may be read elsewhere in the config; then each of them goes the whole way.
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
from besom.sweep.trial import WRITTEN_BY_SLOT, for_slot
from besom.workers.devices import Slot

Plain = dict[str, Any]

_RESOLVER = re.compile(r"\$\{\s*(?!oc\.)[\w.]+\s*:")


class CachedConfigs:
    """Makes drafts of trials' configs."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._models: dict[tuple[tuple[str, ...], tuple[str, ...]], _Model] = {}

    def of(self, params: Params) -> CachedConfig:
        """Return the draft of a trial with these parameters.

        Raises ConfigError naming the key that does not exist or the value that does not fit.
        """
        line, values = self._composer.split(params)
        kind = line, tuple(values)
        model = self._models.get(kind)
        if model is None or not all(map(_is_leaf, values.values())):
            model = _Model(self._composer.compose(params))
            if all(model.may_change(key) and _is_leaf(value) for key, value in values.items()):
                self._models[kind] = model
            else:
                values = {}  # they are in the model, which is this trial's own
        return CachedConfig(model, model.accept(values))


class CachedConfig:
    """A trial's config, before it is known which slot it gets."""

    def __init__(self, model: _Model, values: Plain) -> None:
        self._model = model
        self._values = values

    @cached_property
    def config(self) -> Plain:
        """The resolved config; raises ConfigError when it cannot be resolved."""
        return _with(self._model.resolved, self._values)

    def written_for(self, slot: Slot) -> tuple[Plain, Plain]:
        """Return what a worker trains from in a slot, and what is recorded; raises ConfigError as `config` does."""
        config, recorded = self._model.written_for(slot)
        recordable = {key: hidden(key, value) for key, value in self._values.items()}
        return _with(config, self._values), _with(recorded, recordable)


class _Model:
    """A composed config that others are like, but for some leaves; which values are there now is of no account."""

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
        """Whether a key is a leaf that nothing else in the config is made of, as far as one can tell by its name."""
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
        """Return values as the config's types have them; raises ConfigError for one that does not fit."""
        try:
            for key, value in values.items():
                OmegaConf.update(self._config, key, value, merge=True)
        except OmegaConfBaseException as error:
            raise ConfigError(explain(error)) from error
        chosen = {key: OmegaConf.select(self._config, key) for key in values}
        return {key: OmegaConf.to_container(one) if OmegaConf.is_list(one) else one for key, one in chosen.items()}

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
    """Return a config with other leaves, sharing what is the same."""
    changed = dict(config)
    for key, value in values.items():
        *path, leaf = key.split(".")
        node = changed
        for part in path:
            node[part] = dict(node[part])
            node = node[part]
        node[leaf] = value
    return changed
