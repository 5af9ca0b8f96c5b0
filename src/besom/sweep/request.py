"""A sweep request: its spec, its search space and its fixed overrides, read from the config and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from besom.errors import ConfigError
from besom.secrets.forms import is_secret
from besom.sweep.space.overrides import Line
from besom.sweep.space.search_space import SearchSpace, SpaceParser
from besom.sweep.spec import SweepSpec


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """The spec and the search space of a sweep; `line` holds the overrides that all trials have in common."""

    spec: SweepSpec
    space: SearchSpace
    line: Line

    @classmethod
    def read(
        cls, config: DictConfig, arguments: Sequence[str], context: HydraContext, *, foreign: bool
    ) -> SweepRequest:
        """Read the sweeper's keys and the command line's overrides; `foreign` is true for an app other than Besom.

        Raises ConfigError for a wrong key, and for a secret among the sampled values.
        """
        spec = SweepSpec.read(config, foreign=foreign)
        parser = SpaceParser(context.config_loader, source=spec.source, arguments=arguments)
        keys = OmegaConf.to_container(config.hydra.sweeper)
        assert isinstance(keys, dict)
        space, line = parser.space(keys["params"], keys["when"], custom=spec.search.custom_search_space, config=config)
        _refuse_secrets(spec.source, space)
        return cls(spec=spec, space=space, line=line)


def _refuse_secrets(source: str, space: SearchSpace) -> None:
    """Refuse to sample secrets: a study stores the values of its parameters as they are. Raises ConfigError."""
    for params in space.examples():
        for key, value in params.items():
            if is_secret(key.rpartition(".")[2], value):
                raise ConfigError(
                    f"{source}: hydra.sweeper.params: {key}: a study would record these secrets; sample a config "
                    "group's choices, and have the secret there as ${oc.env:NAME}"
                )
