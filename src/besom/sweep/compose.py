"""Composition of a trial's config from sampled parameters, without Hydra's 80 ms for every trial.

Hydra composes once per combination of overrides that only it can apply (config groups, additions, deletions), and of a
large group's files only a few; plain values are then set on a copy, which takes about a millisecond and results in the
same config.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from besom.config.checks import flatten
from besom.config.messages import composing, explain
from besom.errors import ConfigError
from besom.sweep.option_configs import OptionConfigs
from besom.sweep.space.overrides import Line
from besom.sweep.space.search_space import Params

_COMPOSED_AT_FIRST = 24  # at 0.1 to 0.2 s each
_OF_THE_SWEEP = ("hydra.sweeper", "hydra.launcher")
_EARLIER = (
    "choose it for the whole sweep instead, on the command line or in the defaults, or write parameters in `when`"
)


class Composer:
    """Composes trials' configs from a sweep's config and the overrides that are the same for each trial.

    `fixed` are those overrides, or a `Line`, which also has the positions of the sampled ones.
    """

    def __init__(self, loader: ConfigLoader, sweep_config: DictConfig, fixed: Line | Sequence[str]) -> None:
        self._loader = loader
        self._sweep_config = sweep_config
        self._line = fixed if isinstance(fixed, Line) else Line.of(fixed)
        self._is_group: dict[str, bool] = {}
        self._needs: dict[str, bool] = {}
        self._composed: dict[tuple[str, ...], DictConfig | str] = {}
        self.composed_by_hydra = 0
        self._options = OptionConfigs(loader, self._composed_by_hydra, self.chooses)

    def compose(self, params: Params) -> DictConfig:
        """Return the config of a trial with these parameters, without its `hydra` node.

        Raises ConfigError naming the key that does not exist or the value that does not fit.
        """
        line, values = self.split(params)
        config = self._compose(line).copy()
        for key, value in values.items():
            try:
                OmegaConf.update(config, key, value, merge=True)
            except OmegaConfBaseException as error:
                raise ConfigError(explain(error)) from error
        return config

    def split(self, params: Params) -> tuple[tuple[str, ...], Params]:
        """Return the overrides that only Hydra can apply, and the values to set in the config that it composes."""
        structural = {key: value for key, value in params.items() if self._needs_hydra(key)}
        values = {key: value for key, value in params.items() if key not in structural}
        return tuple(self._line.filled(structural)), values

    def overrides(self, params: Params) -> list[str]:
        """Return the overrides with which `besom train` composes the same config, in their written order."""
        return self._line.filled(params)

    def compose_line(self, overrides: Sequence[str]) -> DictConfig:
        """Return the config of these overrides alone. Raises ConfigError as `compose` does."""
        return self._compose(tuple(overrides)).copy()

    def _compose(self, overrides: tuple[str, ...]) -> DictConfig:
        if not self._is_composed(overrides):
            self._composed[overrides] = self._composed_by_hydra(overrides)
            self.composed_by_hydra += 1
            self._options.add(overrides, self._composed[overrides])
        config = self._composed[overrides]
        if isinstance(config, str):
            raise ConfigError(config)
        return config

    def _is_composed(self, overrides: tuple[str, ...]) -> bool:
        """Return whether the config is cached, or could be made from those of other options."""
        if overrides not in self._composed and (config := self._options.of(overrides)) is not None:
            self._composed[overrides] = config
        return overrides in self._composed

    def at_first(self, examples: Iterable[Params]) -> Iterator[Params]:
        """Yield the parameters to compose before a sweep starts, which must not take minutes.

        Left out are those that only Hydra can compose, such as the hundredth experiment, beyond the first few dozen.
        """
        for params in examples:
            if self.composed_by_hydra < _COMPOSED_AT_FIRST or self._is_composed(self.split(params)[0]):
                yield params

    def _composed_by_hydra(self, overrides: tuple[str, ...]) -> DictConfig | str:
        """Return the config, or the error message, which is cached as well."""
        try:
            with composing(" ".join(overrides)):
                config = self._loader.load_sweep_config(self._sweep_config, list(overrides))
        except (HydraException, ConfigError) as error:
            return explain(error)
        if ignored := self._ignored(config):
            return f"{' '.join(overrides)}: it sets {ignored}, which is too late in a trial; {_EARLIER}"
        with open_dict(config):
            del config["hydra"]
        return config

    def _ignored(self, config: DictConfig) -> str:
        """Return the first key of the sweeper or the launcher that differs in a trial's config, where it is not read.

        An option that is sampled may bring such keys, for example an experiment.
        """
        differs = _first_difference(config, self._sweep_config)
        # Other code may have changed the sweep's config after it was composed.
        return differs and _first_difference(config, self._without_samples)

    @cached_property
    def _without_samples(self) -> DictConfig:
        """The sweep's config as Hydra composes it, with the command line's overrides that are not sampled."""
        given = [text for text in self._sweep_config.hydra.overrides.task if text in self._line.fixed]
        try:
            return self._loader.load_sweep_config(self._sweep_config, given)
        except HydraException:  # a choice of a group may be missing without the samples
            return self._sweep_config

    def _needs_hydra(self, key: str) -> bool:
        if key not in self._needs:
            self._needs[key] = key[0] in "+~" or "@" in key or self.chooses(key) or self._overlaps(key)
        return self._needs[key]

    def chooses(self, key: str) -> bool:
        """Return whether a key chooses an option of a config group."""
        if key not in self._is_group:
            # The loader does not look into hydra.searchpath: a group there is known by its choice in the config.
            chosen = key in self._sweep_config.hydra.runtime.choices
            self._is_group[key] = chosen or bool(self._loader.get_group_options(key))
        return self._is_group[key]

    def _overlaps(self, key: str) -> bool:
        """Return whether another override sets a key inside or around this one, so that their order matters."""
        others = {_path(other) for other in self._line.order if other != key and not self.chooses(_path(other))}
        return any(f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.") for other in others)


def _first_difference(config: DictConfig, other: DictConfig) -> str:
    """Return the first key of the sweeper or the launcher that differs, empty if there is none."""
    for node in _OF_THE_SWEEP:
        here, there = (_keys(OmegaConf.select(whole, node)) for whole in (config, other))
        for key in {**here, **there}:
            if here.get(key) != there.get(key):
                return f"{node}.{key}"
    return ""


def _keys(node: Any) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(node, resolve=False) if OmegaConf.is_dict(node) else None
    return dict(flatten(plain)) if isinstance(plain, dict) else {}


def _path(key: str) -> str:
    return key.lstrip("+~").partition("=")[0]
