"""A search space that a Python function extends: `custom_search_space`, as in hydra-optuna-sweeper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.utils import get_method
from omegaconf import DictConfig
from optuna.trial import Trial

from besom.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class CustomSpace:
    """Asks a function `(config, trial) -> None` for further parameters, after those of the sweep file.

    `fixed` are the values, as text, of the keys that are the same for every trial: the function finds them in
    `trial.user_attrs`, and may not suggest them.
    """

    name: str
    function: Callable[[DictConfig, Trial], object]
    config: DictConfig
    source: str
    fixed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def find(cls, name: str, config: DictConfig, source: str, fixed: Mapping[str, str]) -> CustomSpace:
        """Find the function by its dotted name.

        Raises ConfigError when there is no such function.
        """
        try:
            function = get_method(name)
        except Exception as error:  # whatever importing the user's module raises
            reason = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(
                f"{source}: hydra.sweeper.custom_search_space: {name} cannot be imported ({reason}); name a function "
                "(config, trial) as MODULE.FUNCTION, in a module that Python finds"
            ) from error
        return cls(name=name, function=function, config=config, source=source, fixed=fixed)

    def suggest(self, trial: Trial) -> None:
        """Let the function suggest what it likes.

        Raises ConfigError when it raises, or suggests what is fixed.
        """
        for key, value in self.fixed.items():
            trial.set_user_attr(key, value)
        where = f"{self.source}: hydra.sweeper.custom_search_space: {self.name}"
        try:
            self.function(self.config, trial)
        except Exception as error:
            told = (str(error).strip() or "no message").splitlines()[0]
            raise ConfigError(f"{where}: raised {type(error).__name__}: {told}; mend the function") from error
        if taken := sorted(trial.params.keys() & self.fixed.keys()):
            raise ConfigError(
                f"{where}: suggests {taken[0]}, which is fixed as {self.fixed[taken[0]]}; leave out one of the two"
            )

    def chosen(self, trial: Trial, known: set[str]) -> dict[str, Any]:
        """Return what the function suggested: every parameter of the trial whose name is not among those known."""
        return {name: value for name, value in trial.params.items() if name not in known}
