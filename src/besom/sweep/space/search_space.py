"""The search space of a sweep, parsed from Hydra's override grammar.

`optimizer.lr: tag(log, interval(1e-4, 1e-1))` becomes a `Parameter` with a distribution. A parameter under
`when:` is active only if its conditions hold; an inactive one is neither sampled nor recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, Trial

from besom.errors import ConfigError, one_of
from besom.sweep.space.custom import CustomSpace
from besom.sweep.space.enumeration import Tree
from besom.sweep.space.parameter import Condition, Parameter, Params

__all__ = ["Condition", "Parameter", "Params", "SearchSpace"]


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The parameters of a sweep, each after those in its conditions; `custom` suggests further ones."""

    parameters: tuple[Parameter, ...]
    custom: CustomSpace | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The sampled config keys, each once; those that a Python function suggests are not known."""
        return tuple(dict.fromkeys(parameter.key for parameter in self.parameters))

    @property
    def is_empty(self) -> bool:
        """True if nothing is sampled."""
        return not self.parameters and self.custom is None

    @property
    def has_choices_alone(self) -> bool:
        """True if every parameter is a choice, not a number from a range or an interval."""
        return self.custom is None and all(
            isinstance(parameter.distribution, CategoricalDistribution) for parameter in self.parameters
        )

    def sample(self, trial: Trial) -> Params:
        """Let a trial suggest a value for every active parameter, and return the parameters.

        Raises ConfigError when the function of `custom_search_space` fails.
        """
        params: Params = {}
        for parameter in self.parameters:
            if parameter.active(params):
                params[parameter.key] = parameter.suggest(trial)
        if self.custom is not None:
            keys = {parameter.name: parameter.key for parameter in self.parameters}
            self.custom.suggest(trial, keys)
            params |= self.custom.chosen(trial, set(keys))
        return params

    def params_of(self, trial: FrozenTrial) -> Params:
        """Return the parameters of a trial sampled from this space."""
        params: Params = {}
        for parameter in self.parameters:
            if parameter.active(params):
                params[parameter.key] = parameter.from_stored(trial.params[parameter.name])
        if self.custom is not None:
            params |= self.custom.chosen(trial, {parameter.name for parameter in self.parameters})
        return params

    def size(self) -> int | None:
        """Return the number of points, None if they cannot be counted."""
        return None if self.custom is not None else Tree(self.parameters).size()

    def points(self) -> Iterator[Params]:
        """Yield every point, the first parameter changing slowest; raises ValueError when they cannot be counted."""
        if self.custom is not None:
            raise ValueError("nobody knows before what custom_search_space will ask for")
        return Tree(self.parameters).points()

    def to_stored(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return Optuna's names and values for some parameters, not necessarily all.

        Raises ConfigError, which begins with the key, for a key that is not in the space or is inactive with these
        parameters, and for a value that cannot be chosen.
        """
        stored: dict[str, Any] = {}
        active: set[str] = set()
        for parameter in self.parameters:
            if parameter.key in params and parameter.active(dict(params)):
                active.add(parameter.key)
                try:
                    stored[parameter.name] = parameter.to_stored(params[parameter.key])
                except ValueError as error:
                    raise ConfigError(f"{parameter.key}: {error}") from error
        for key in params.keys() - active:
            stored[key] = self._custom_value(key, params[key])
        return stored

    def from_stored(self, stored: Mapping[str, Any]) -> Params:
        """Return the parameters of Optuna's names and values, as far as this space can choose them.

        They may come from another study: parameters or values that this space does not have are left out.
        """
        params: Params = {}
        for parameter in self.parameters:
            if not parameter.active(params):
                continue
            names = [parameter.name, *(name for name in stored if name.partition(" (")[0] == parameter.key)]
            for value in (parameter.from_stored(stored[name]) for name in names if name in stored):
                if parameter.may_be(value):
                    params[parameter.key] = value
                    break
        return params

    def _custom_value(self, key: str, value: Any) -> Any:
        """Return the value if a Python function may suggest the key. Raises ConfigError otherwise."""
        if key in self.keys:
            ways = " or ".join(
                " and ".join(map(str, parameter.conditions)) for parameter in self.parameters if parameter.key == key
            )
            raise ConfigError(f"{key}: it exists only where {ways}; add that, or leave it out")
        if self.custom is None:
            raise ConfigError(f"{key}: it is not sampled; {one_of(key, self.keys)}")
        return value

    def examples(self, *, at_least_one: bool = False) -> Iterator[Params]:
        """Yield sets of parameters that together contain every parameter and every choice at least once.

        With `at_least_one`, a space without parameters yields an empty set.
        """
        if at_least_one and not self.parameters:
            yield {}
        for shown in self.parameters:
            for value in shown.examples():
                wanted = self._required_by(shown)
                params: Params = {}
                for parameter in self.parameters:
                    if parameter.active(params):
                        first = value if parameter is shown else parameter.examples()[0]
                        params[parameter.key] = wanted.get(parameter.key, first)
                yield params

    def _required_by(self, shown: Parameter) -> Params:
        """Return the parameters that make a conditional parameter active."""
        wanted: Params = {}
        for condition in shown.conditions:
            for other in self.parameters:
                values = [value for value in condition.values if other.key == condition.key and other.may_be(value)]
                if values:
                    wanted |= {condition.key: values[0], **self._required_by(other)}
                    break
        return wanted

    def signature(self) -> dict[str, str]:
        """Return a description of the space, which a resumed study must match."""
        described = {
            parameter.name: " ".join([repr(parameter.distribution), *map(str, parameter.conditions)])
            for parameter in self.parameters
        }
        return described if self.custom is None else {**described, "custom_search_space": self.custom.name}
