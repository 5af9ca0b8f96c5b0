"""A sweep request: its spec, its search space and its fixed overrides, read from the config and the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from besom.errors import ConfigError
from besom.secrets.forms import is_secret
from besom.sweep.space.overrides import Line
from besom.sweep.space.parser import SpaceParser
from besom.sweep.space.search_space import SearchSpace
from besom.sweep.spec import SweepSpec
from besom.sweep.spec_parts import AUTO, USUAL_TRIALS


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """The spec and the search space of a sweep; `line` holds the overrides that all trials have in common."""

    spec: SweepSpec
    space: SearchSpace
    line: Line

    @classmethod
    def read(
        cls, config: DictConfig, arguments: Sequence[str], context: HydraContext, *, app_name: str | None = None
    ) -> SweepRequest:
        """Read the sweeper's keys and the command line's overrides; `app_name` is the name of an app other than Besom.

        Raises ConfigError for a wrong key, and for a secret among the sampled values.
        """
        spec = SweepSpec.read(config, app_name=app_name)
        parser = SpaceParser(context.config_loader, source=spec.source, arguments=arguments)
        keys = OmegaConf.to_container(config.hydra.sweeper)
        assert isinstance(keys, dict)
        params = _params(config.hydra.sweeper, spec.source)
        space, line = parser.space(params, keys["when"], custom=spec.search.custom_search_space, config=config)
        _refuse_secrets(spec.source, space)
        if keys["n_trials"] == AUTO:
            spec = _each_point_once(spec, space)
        return cls(spec=spec, space=space, line=line)


def _params(node: DictConfig, source: str) -> dict[Any, Any]:
    """Return the parameters of `params` and of `search_space`, as hydra-optuna-sweeper named them until 1.2.

    Raises ConfigError for one that is in both.
    """
    keys: Any = OmegaConf.to_container(node)
    older, params = keys["search_space"] or {}, keys["params"] or {}
    where = f"{source}: hydra.sweeper.search_space"
    if not isinstance(older, Mapping):
        raise ConfigError(f"{where}: '{older}' is no parameters; write KEY: VALUE lines, as in hydra.sweeper.params")
    for key in older:
        if key in params:
            raise ConfigError(f"{where}: {key}: it is in hydra.sweeper.params as well; take one out")
    return {**older, **{key: _with_bounds(node.params, key, value) for key, value in params.items()}}


_OF_NUMBERS = re.compile(r"\b(interval|range)\(")


def _with_bounds(params: DictConfig, key: Any, value: Any) -> Any:
    """Return the value with `${…}` resolved in an interval or a range; elsewhere, each trial resolves it."""
    return params[key] if isinstance(value, str) and "${" in value and _OF_NUMBERS.search(value) else value


def _each_point_once(spec: SweepSpec, space: SearchSpace) -> SweepSpec:
    """Return the spec with a grid where nothing names a sampler, and choices or few points are all there is.

    Hydra's own sweeper makes that of `x=1,2,3`. A grid that the config names has all its points as well.
    """
    size = space.size()
    is_grid = str(spec.search.sampler.get("_target_")).endswith(".GridSampler")
    few = size is not None and (space.has_choices_alone or size <= USUAL_TRIALS)
    if space.is_empty or not (is_grid or (few and not spec.search.sampler)):
        return spec
    sampler = spec.search.sampler or {"_target_": "optuna.samplers.GridSampler"}
    return replace(spec, search=replace(spec.search, sampler=sampler), budget=replace(spec.budget, n_trials=size))


def _refuse_secrets(source: str, space: SearchSpace) -> None:
    """Refuse to sample secrets: a study stores the values of its parameters as they are. Raises ConfigError."""
    for params in space.examples():
        for key, value in params.items():
            if is_secret(key.rpartition(".")[2], value):
                raise ConfigError(
                    f"{source}: hydra.sweeper.params: {key}: a study would record these secrets; sample a config "
                    "group's choices, and have the secret there as ${oc.env:NAME}"
                )
