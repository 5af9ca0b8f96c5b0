"""A parser of search spaces in Hydra's override grammar, as a sweep's file and the command line have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig

from besom.config.messages import explain
from besom.errors import ConfigError, one_of
from besom.sweep.space.custom import CustomSpace
from besom.sweep.space.enumeration import Tree
from besom.sweep.space.grammar import distribution, from_mapping, plain, range_points, skipped_stop
from besom.sweep.space.overrides import Line, to_text
from besom.sweep.space.parameter import Condition, Parameter
from besom.sweep.space.search_space import SearchSpace

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
            override = self._arguments.get(key) or self._parse(f"{key}={self._grammar(key, value)}", self._source)
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

    def _grammar(self, key: str, value: Any) -> str:
        if not isinstance(value, Mapping):
            return value if isinstance(value, str) else to_text(value)
        try:
            return from_mapping(value)
        except ValueError as error:
            raise ConfigError(f"{self._source}: {key}: {error}") from error

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
