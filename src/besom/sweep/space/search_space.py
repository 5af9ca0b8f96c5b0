"""The search space of a sweep, parsed from Hydra's override grammar.

`optimizer.lr: tag(log, interval(1e-4, 1e-1))` becomes a `Parameter` with a distribution. A parameter under
`when:` is active only if its conditions hold; an inactive one is neither sampled nor recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, Trial

from besom.config.messages import explain
from besom.errors import ConfigError, one_of
from besom.sweep.space.custom import CustomSpace
from besom.sweep.space.enumeration import Tree
from besom.sweep.space.grammar import distribution, plain, range_points, skipped_stop
from besom.sweep.space.overrides import Line, to_text
from besom.sweep.space.parameter import Condition, Parameter, Params

__all__ = ["Condition", "Parameter", "Params", "SearchSpace", "SpaceParser"]


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


_Conditional = tuple[Override, tuple[Condition, ...]]


class SpaceParser:
    """A parser of search spaces in Hydra's override grammar.

    `source` names the sweep file, for messages. `arguments` are the command line's overrides, which take precedence
    over the file: a sweep such as `model.width=choice(16,32)` replaces that of the file, a plain value fixes the
    parameter.
    """

    def __init__(self, loader: ConfigLoader, *, source: str, arguments: Sequence[str] = ()) -> None:
        self._loader = loader
        self._source = source
        self._arguments = {
            override.get_key_element(): override
            for override in (self._parse(line, "command line") for line in arguments)
        }

    def space(
        self,
        params: Mapping[str, Any] | None,
        when: Mapping[str, Any] | None,
        *,
        custom: str | None = None,
        config: DictConfig | None = None,
    ) -> tuple[SearchSpace, Line]:
        """Return the search space, and a trial's overrides in their order.

        `custom` is the dotted name of a `custom_search_space` function, which is called with `config`. Raises
        ConfigError naming the file, the key and the remedy.
        """
        pinned = {key: override for key, override in self._arguments.items() if not _is_sampled(override)}
        written = list(self._read(params or {}, when or {}, (), pinned))
        keys = [override.get_key_element() for override, _ in written]
        added: list[_Conditional] = [(override, ()) for key, override in self._arguments.items() if key not in keys]
        overrides = [*added, *written]
        sampled = [(override, conditions) for override, conditions in overrides if _is_sampled(override) or conditions]
        keys = [override.get_key_element() for override, _ in sampled]
        parameters = tuple(
            self._parameter(key, override, conditions, unique=keys.count(key) == 1)
            for key, (override, conditions) in zip(keys, sampled, strict=True)
        )
        self._check_conditions(parameters)
        line = _line([*written, *added])
        custom_space = None
        if custom is not None:
            fixed = {key: text.partition("=")[2] for key, text in line.texts.items() if "=" in text}
            custom_space = CustomSpace.find(custom, config or DictConfig({}), self._source, fixed)
        return SearchSpace(parameters=parameters, custom=custom_space), line

    def _read(
        self,
        params: Mapping[str, Any],
        when: Mapping[str, Any],
        conditions: tuple[Condition, ...],
        pinned: Mapping[str, Override],
    ) -> Iterator[_Conditional]:
        pinned = dict(pinned)
        for key, value in params.items():
            self._check_key(key, "params" if not conditions else f"when: '{conditions[-1]}'")
            override = self._arguments.get(key) or self._parse(f"{key}={_grammar(value)}", self._source)
            self._check_choice(key, override)
            if not (_is_sampled(override) or conditions):
                pinned[key] = override
            yield override, conditions
        for text, block in when.items():
            nested = block.get("when") or {} if isinstance(block, Mapping) else None
            if not isinstance(block, Mapping) or not isinstance(nested, Mapping):
                raise ConfigError(
                    f"{self._source}: when: '{text}' needs parameters below it, like model.depth: range(1, 4)"
                )
            self._check_key(text, "when")
            condition = self._condition(text)
            inner = {key: value for key, value in block.items() if key != "when"}
            if condition.key not in pinned:
                yield from self._read(inner, nested, (*conditions, condition), pinned)
            elif pinned[condition.key].value() in condition.values:
                yield from self._read(inner, nested, conditions, pinned)

    def _check_key(self, key: Any, place: str) -> None:
        if not isinstance(key, str) or not key.lstrip("+") or key.startswith("~"):
            example = "model=mlp_classifier" if place == "when" else "model.depth: range(1, 4)"
            raise ConfigError(f"{self._source}: {place}: '{key}' is the name of no key; write such as {example}")

    def _check_choice(self, key: str, override: Override) -> None:
        """Raise ConfigError for a choice that is no option of its group, for which Hydra raises a traceback."""
        value = override.value()
        values = value.list if isinstance(value, ChoiceSweep) else [value]
        if all(_names_config(name) for name in values) or isinstance(value, IntervalSweep | RangeSweep):
            return
        if options := self._loader.get_group_options(key.partition("@")[0]):
            wrong = next(plain(name) for name in values if not _names_config(name))
            raise ConfigError(
                f"{self._source}: {key}: {to_text(wrong)} is no config of this group; {one_of('', options)}"
            )

    def _parse(self, line: str, source: str) -> Override:
        try:
            (override,) = OverridesParser.create(config_loader=self._loader).parse_overrides([line])
        except HydraException as error:
            raise ConfigError(f"{source}: {explain(error)}") from error
        return override

    def _condition(self, text: str) -> Condition:
        override = self._parse(text, f"{self._source}: when")
        value = override.value()
        if override.is_interval_sweep():
            raise ConfigError(f"{self._source}: when: '{text}' names no values; write them as {text.split('=')[0]}=1,2")
        if isinstance(value, RangeSweep):
            try:
                values: Sequence[Any] = range_points(value)
            except ValueError as error:
                raise ConfigError(f"{self._source}: when: '{text}': {error}") from error
        else:
            values = list(override.sweep_iterator()) if override.is_choice_sweep() else [value]
        return Condition(key=override.get_key_element(), values=tuple(plain(value) for value in values))

    def _check_conditions(self, parameters: Sequence[Parameter]) -> None:
        for index, parameter in enumerate(parameters):
            for condition in parameter.conditions:
                earlier = [other for other in parameters[:index] if other.key == condition.key]
                where = f"{self._source}: when: '{condition}'"
                if not earlier:
                    raise ConfigError(f"{where} speaks of {condition.key}, which is not sampled; add it to params")
                if not any(other.may_be(value) for other in earlier for value in condition.values):
                    raise ConfigError(f"{where} can never hold; name a value that {condition.key} is chosen from")
        twice = Tree(parameters).chosen_twice()
        if twice is not None:
            ways = [
                f"where {' and '.join(map(str, other.conditions))}" if other.conditions else "always"
                for other in parameters
                if other.key == twice.key
            ]
            raise ConfigError(
                f"{self._source}: {twice.key}: is chosen {' and again '.join(ways)}; let these exclude each other"
            )

    def _parameter(self, key: str, override: Override, conditions: tuple[Condition, ...], *, unique: bool) -> Parameter:
        try:
            sampled, labels = distribution(override)
        except ValueError as error:
            raise ConfigError(f"{self._source}: {key}: {error}") from error
        name = key if unique or not conditions else f"{key} ({', '.join(map(str, conditions))})"
        return Parameter(
            key=key,
            name=name,
            distribution=sampled,
            labels=labels,
            conditions=conditions,
            skipped=skipped_stop(override),
        )


def _is_sampled(override: Override) -> bool:
    return override.is_sweep_override()


def _names_config(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return not any(isinstance(name, int | float | list | dict | None) for name in names)  # a glob may, and text


def _line(overrides: Sequence[_Conditional]) -> Line:
    texts = {
        override.get_key_element(): str(override.input_line)
        for override, conditions in overrides
        if not (_is_sampled(override) or conditions)
    }
    return Line(order=tuple(dict.fromkeys(override.get_key_element() for override, _ in overrides)), texts=texts)


def _grammar(value: Any) -> str:
    return value if isinstance(value, str) else to_text(value)
