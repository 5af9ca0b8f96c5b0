"""From sampled parameters to a trial's config, without paying Hydra's 80 ms for every trial.

Hydra composes once per combination of what only it can do (config groups, additions, deletions); plain values are
then set on a copy, which takes about a millisecond and gives the same config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from besom.errors import ConfigError
from besom.sweep.space import Params


class Composer:
    """Composes trials' configs from a sweep's config and the overrides that are the same for each trial."""

    def __init__(self, loader: ConfigLoader, sweep_config: DictConfig, fixed: Sequence[str]) -> None:
        self._loader = loader
        self._sweep_config = sweep_config
        self._fixed = list(fixed)
        self._is_group: dict[str, bool] = {}
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, params: Params) -> DictConfig:
        """Return the config of a trial with these parameters, without its `hydra` node.

        Raises ConfigError naming the key that does not exist or the value that does not fit.
        """
        structural = {key: value for key, value in params.items() if self._needs_hydra(key)}
        config = self._compose(tuple(to_overrides(structural))).copy()
        for key, value in params.items():
            if key not in structural:
                try:
                    OmegaConf.update(config, key, value, merge=True)
                except OmegaConfBaseException as error:
                    raise ConfigError(f"{key}: {str(error).splitlines()[0]}; check the key and its type") from error
        return config

    def overrides(self, params: Params) -> list[str]:
        """Return the overrides that `besom train` would need for the same config."""
        return [*self._fixed, *to_overrides(params)]

    def _compose(self, overrides: tuple[str, ...]) -> DictConfig:
        if overrides not in self._composed:
            try:
                config = self._loader.load_sweep_config(self._sweep_config, [*self._fixed, *overrides])
            except HydraException as error:
                raise ConfigError(one_line(error)) from error
            with open_dict(config):
                del config["hydra"]
            self._composed[overrides] = config
        return self._composed[overrides]

    def _needs_hydra(self, key: str) -> bool:
        if key not in self._is_group:
            self._is_group[key] = key[0] in "+~" or "@" in key or bool(self._loader.get_group_options(key))
        return self._is_group[key]


def to_overrides(params: Mapping[str, Any]) -> list[str]:
    """Return Hydra overrides that set these values."""
    return [f"{key}={_text(value)}" for key, value in params.items()]


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            plain = value.replace("_", "").isalnum() and not value[0].isdigit()
            return value if plain else QuotedString(text=value, quote=Quote.single).with_quotes()
        case list() | tuple():
            return f"[{','.join(_text(item) for item in value)}]"
        case dict():
            return "{" + ",".join(f"{key}:{_text(item)}" for key, item in value.items()) + "}"
    return str(value)


def one_line(error: BaseException) -> str:
    """Return what Hydra and OmegaConf say over several lines as one: causes and choices, no search paths."""
    parts: list[str] = []
    if (written := getattr(error, "override", None)) is not None:
        parts.append(str(written))
    current: BaseException | None = error
    while current is not None:
        text, _, listing = str(current).partition("Available options")
        lines = [line.strip().rstrip(".") for line in text.splitlines() if line.strip()]
        parts += [
            line for line in lines[:2] if not line.startswith(("full_key", "object_type", "See https", "Config search"))
        ]
        options = [line.strip() for line in listing.partition("Config search path")[0].splitlines()[1:] if line.strip()]
        if options:
            parts.append(f"use one of {', '.join(options)}")
        current = current.__cause__
    return "; ".join(dict.fromkeys(parts))
