"""`custom_search_space`: a Python function that extends the search space, as in hydra-optuna-sweeper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import getLogger
from typing import Any

from hydra.utils import get_method
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, Trial

from besom.errors import ConfigError, first_line, kind_and_line


@dataclass(frozen=True, kw_only=True)
class CustomSpace:
    """A function `(config, trial) -> None` that suggests further parameters, after those of the sweep file.

    `fixed` are the values, as text, of the keys that are the same for every trial: the function can read them in
    `trial.user_attrs`, and must not suggest them.
    """

    name: str
    function: Callable[[DictConfig, Trial], object]
    config: DictConfig
    source: str
    fixed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def find(cls, name: str, config: DictConfig, source: str, fixed: Mapping[str, str]) -> CustomSpace:
        """Import the function by its dotted name.

        Raises ConfigError when it cannot be imported.
        """
        try:
            with _without_hydra_log():
                function = get_method(name.lstrip("."))  # Hydra's own example begins with a dot
        except Exception as error:  # importing a user's module can raise anything
            reason = first_line(error.__cause__ or error)
            raise ConfigError(
                f"{source}: hydra.sweeper.custom_search_space: {name} cannot be imported ({reason}); name a function "
                "(config, trial) as MODULE.FUNCTION, in a module that Python finds"
            ) from error
        return cls(name=name, function=function, config=config, source=source, fixed=fixed)

    def suggest(self, trial: Trial, keys: Mapping[str, str]) -> None:
        """Call the function; `keys` maps the names of the parameters suggested so far to their config keys.

        Raises ConfigError when the function raises, or suggests a fixed key.
        """
        for key, value in self.fixed.items():
            trial.set_user_attr(key, value)
        where = f"{self.source}: hydra.sweeper.custom_search_space: {self.name}"
        try:
            self.function(self.config, _ByKey(trial, keys))
        except Exception as error:
            raise ConfigError(f"{where}: raised {kind_and_line(error)}; mend the function") from error
        if taken := sorted(trial.params.keys() & self.fixed.keys()):
            raise ConfigError(
                f"{where}: suggests {taken[0]}, which is fixed as {self.fixed[taken[0]]}; leave out one of the two"
            )

    def chosen(self, trial: Trial | FrozenTrial, known: set[str]) -> dict[str, Any]:
        """Return the parameters that the function suggested: those of the trial whose names are not in `known`."""
        return {name: value for name, value in trial.params.items() if name not in known}


class _ByKey(Trial):
    """A view of a trial whose `params` are named by config key.

    For a key under several conditions, Optuna has a parameter per condition: `optimizer.lr (optimizer=sgd)`.
    """

    __slots__ = ("_keys",)

    def __init__(self, trial: Trial, keys: Mapping[str, str]) -> None:
        self.__dict__ = trial.__dict__
        self._keys = keys

    @property
    def params(self) -> dict[str, Any]:
        return {self._keys.get(name, name): value for name, value in super().params.items()}


@contextmanager
def _without_hydra_log() -> Iterator[None]:
    """Keep Hydra from logging the error that it raises."""
    log = getLogger("hydra.utils")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
