"""The search space: Hydra's override grammar in, Optuna's distributions out.

`optimizer.lr: tag(log, interval(1e-4, 1e-1))` becomes a `Parameter` with a distribution. A parameter under
`when:` exists only where its conditions hold: what is not active is neither sampled nor recorded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from besom.errors import ConfigError
from besom.explain import explain
from besom.sweep.overrides import to_text

Params = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Holds when the parameter `key` was chosen as one of `values`."""

    key: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.key}={','.join(str(value) for value in self.values)}"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One dimension of the space: a config key, its distribution, and when it exists.

    `labels` maps what Optuna stores to what the config gets, for choices that Optuna cannot store, such as lists.
    """

    key: str
    name: str
    distribution: BaseDistribution
    labels: Mapping[Any, Any]
    conditions: tuple[Condition, ...] = ()

    def active(self, params: Params) -> bool:
        """Whether every condition holds among the parameters chosen so far."""
        return all(
            condition.key in params and params[condition.key] in condition.values for condition in self.conditions
        )

    def suggest(self, trial: Trial) -> Any:
        """Let the trial choose; return the value that the config gets."""
        match self.distribution:
            case FloatDistribution(low=low, high=high, log=log, step=step):
                return trial.suggest_float(self.name, low, high, step=step, log=log)
            case IntDistribution(low=low, high=high, log=log, step=step):
                return trial.suggest_int(self.name, low, high, step=step, log=log)
            case CategoricalDistribution(choices=choices):
                chosen = trial.suggest_categorical(self.name, choices)
                return self.labels.get(chosen, chosen)
        raise AssertionError(self.distribution)

    def examples(self) -> list[Any]:
        """Values to compose once before the sweep starts: every choice, or the lower end of a range."""
        if isinstance(self.distribution, CategoricalDistribution):
            return [self.labels.get(choice, choice) for choice in self.distribution.choices]
        return [self.distribution.low]  # type: ignore[attr-defined]

    def may_be(self, value: Any) -> bool:
        """Whether the value can be chosen, at least by its size."""
        match self.distribution:
            case FloatDistribution(low=low, high=high) | IntDistribution(low=low, high=high):
                return isinstance(value, int | float) and low <= value <= high
        return value in self.examples()


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The parameters, each after those that its conditions speak of."""

    parameters: tuple[Parameter, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The config keys that are sampled, each once."""
        return tuple(dict.fromkeys(parameter.key for parameter in self.parameters))

    def sample(self, trial: Trial) -> Params:
        """Let a trial choose a value for every parameter that is active."""
        params: Params = {}
        for parameter in self.parameters:
            if parameter.active(params):
                params[parameter.key] = parameter.suggest(trial)
        return params

    def examples(self) -> Iterator[Params]:
        """Yield parameters that together show every parameter, and every choice, at least once."""
        for shown in self.parameters:
            for value in shown.examples():
                wanted = {condition.key: condition.values[0] for condition in shown.conditions}
                params: Params = {}
                for parameter in self.parameters:
                    if parameter.active(params):
                        first = value if parameter is shown else parameter.examples()[0]
                        params[parameter.key] = wanted.get(parameter.key, first)
                yield params

    def signature(self) -> dict[str, str]:
        """A description by which a resumed study is told from another one."""
        return {
            parameter.name: " ".join([repr(parameter.distribution), *map(str, parameter.conditions)])
            for parameter in self.parameters
        }


_Found = tuple[Override, tuple[Condition, ...]]


class SpaceParser:
    """Reads a search space in Hydra's override grammar.

    `source` names the sweep file, for messages. `arguments` are the command line's overrides; they win over the
    file: a sweep such as `model.width=choice(16,32)` replaces the file's, a plain value pins the parameter.
    """

    def __init__(self, loader: ConfigLoader, *, source: str, arguments: Sequence[str] = ()) -> None:
        self._loader = loader
        self._source = source
        self._given = {
            override.get_key_element(): override
            for override in (self._parse(line, "command line") for line in arguments)
        }

    def space(self, params: Mapping[str, Any], when: Mapping[str, Any]) -> tuple[SearchSpace, list[str]]:
        """Return the search space, and the overrides that are the same for every trial.

        Raises ConfigError naming the file, the key and the remedy.
        """
        pinned = {key: override for key, override in self._given.items() if not _is_sampled(override)}
        written = list(self._read(params, when, (), pinned))
        keys = [override.get_key_element() for override, _ in written]
        added = [(override, ()) for key, override in self._given.items() if key not in keys]
        everything: list[_Found] = [*added, *written]
        fixed = [str(found.input_line) for found, conditions in everything if not (_is_sampled(found) or conditions)]
        sampled = [(found, conditions) for found, conditions in everything if _is_sampled(found) or conditions]
        keys = [override.get_key_element() for override, _ in sampled]
        parameters = tuple(
            self._parameter(key, override, conditions, unique=keys.count(key) == 1)
            for key, (override, conditions) in zip(keys, sampled, strict=True)
        )
        self._check_conditions(parameters)
        return SearchSpace(parameters=parameters), fixed

    def _read(
        self,
        params: Mapping[str, Any],
        when: Mapping[str, Any],
        conditions: tuple[Condition, ...],
        pinned: Mapping[str, Override],
    ) -> Iterator[_Found]:
        pinned = dict(pinned)
        for key, value in params.items():
            override = self._given.get(key) or self._parse(f"{key}={_grammar(value)}", self._source)
            if not (_is_sampled(override) or conditions):
                pinned[key] = override
            yield override, conditions
        for text, block in when.items():
            if not isinstance(block, Mapping):
                raise ConfigError(
                    f"{self._source}: when: '{text}' needs parameters below it, like model.depth: range(1, 4)"
                )
            condition = self._condition(text)
            inner = {key: value for key, value in block.items() if key != "when"}
            deeper = block.get("when") or {}
            if condition.key not in pinned:
                yield from self._read(inner, deeper, (*conditions, condition), pinned)
            elif pinned[condition.key].value() in condition.values:
                yield from self._read(inner, deeper, conditions, pinned)

    def _parse(self, line: str, source: str) -> Override:
        try:
            (override,) = OverridesParser.create(config_loader=self._loader).parse_overrides([line])
        except HydraException as error:
            raise ConfigError(f"{source}: {explain(error)}") from error
        return override

    def _condition(self, text: str) -> Condition:
        override = self._parse(text, f"{self._source}: when")
        values = override.sweep_iterator() if override.is_choice_sweep() else [override.value()]
        return Condition(key=override.get_key_element(), values=tuple(_plain(value) for value in values))

    def _check_conditions(self, parameters: Sequence[Parameter]) -> None:
        for index, parameter in enumerate(parameters):
            for condition in parameter.conditions:
                spoken_of = [other for other in parameters[:index] if other.key == condition.key]
                where = f"{self._source}: when: '{condition}'"
                if not spoken_of:
                    raise ConfigError(f"{where} speaks of {condition.key}, which is not sampled; add it to params")
                if not any(other.may_be(value) for other in spoken_of for value in condition.values):
                    raise ConfigError(f"{where} can never hold; name a value that {condition.key} is chosen from")

    def _parameter(self, key: str, override: Override, conditions: tuple[Condition, ...], *, unique: bool) -> Parameter:
        try:
            distribution, labels = _distribution(override)
        except ValueError as error:
            raise ConfigError(f"{self._source}: {key}: {error}") from error
        name = key if unique or not conditions else f"{key} ({', '.join(map(str, conditions))})"
        return Parameter(key=key, name=name, distribution=distribution, labels=labels, conditions=conditions)


def _is_sampled(override: Override) -> bool:
    return override.is_sweep_override()


def _grammar(value: Any) -> str:
    return value if isinstance(value, str) else to_text(value)


def _distribution(override: Override) -> tuple[BaseDistribution, Mapping[Any, Any]]:
    value = override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        return _numeric(value.start, value.end, None, log="log" in value.tags), {}
    if isinstance(value, RangeSweep):
        assert value.start is not None
        assert value.stop is not None
        step = value.step or 1
        if step <= 0 or value.stop <= value.start:
            raise ValueError(f"range({value.start}, {value.stop}, {step}) is empty; count upwards")
        points = list(value.range())
        return _numeric(points[0], points[-1], step, log="log" in value.tags), {}
    if isinstance(value, ChoiceSweep):
        choices = value.list  # as written: Optuna knows no order, and a shuffled one would differ on resume
    else:
        choices = list(override.sweep_iterator()) if override.is_sweep_override() else [value]
    plain = [_plain(choice) for choice in choices]
    if not plain:
        raise ValueError("nothing to choose from; name at least one value")
    stored = [choice if isinstance(choice, str | int | float | bool | None) else repr(choice) for choice in plain]
    if len(set(map(repr, stored))) < len(stored):
        raise ValueError("a choice names the same value twice; name each once")
    labels = {label: choice for label, choice in zip(stored, plain, strict=True) if label is not choice}
    return CategoricalDistribution(stored), labels


def _plain(choice: Any) -> Any:
    if isinstance(choice, QuotedString):
        return choice.text
    if isinstance(choice, list):
        return [_plain(item) for item in choice]
    if isinstance(choice, dict):
        return {_plain(key): _plain(value) for key, value in choice.items()}
    return choice


def _numeric(low: float, high: float, step: float | None, *, log: bool) -> BaseDistribution:
    if low > high:
        raise ValueError(f"low {low:g} is above high {high:g}; swap the bounds")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{low:g} to {high:g} has no end; name finite bounds")
    if log and low <= 0:
        raise ValueError(f"a log scale cannot start at {low:g}; start above 0")
    if log and step not in (None, 1):
        raise ValueError("a log scale takes no step; drop one of them")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=None if log else step)
