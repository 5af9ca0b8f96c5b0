"""A grid: every point of the search space once, in written order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.samplers import BruteForceSampler, GridSampler
from optuna.trial import FrozenTrial

from besom.errors import ConfigError, one_of
from besom.sweep.space.search_space import Parameter, Params, SearchSpace
from besom.sweep.spec_parts import SearchSpec
from besom.sweep.study.samplers import target, with_target

_Point = frozenset[tuple[str, Any]]


class Grid:
    """The points of a finite search space, each of which a study visits once.

    `total` is their number. With `proposed`, the grid proposes the points, the first parameter changing slowest;
    otherwise the sampler does, and only the number is used.
    """

    def __init__(self, space: SearchSpace, source: str, *, proposed: bool = True) -> None:
        self._space = space
        self._names = {parameter.name for parameter in space.parameters}
        size = space.size()
        if size is None:
            raise _endless(space, source)
        self.total = size
        self._proposed = proposed
        self._points = self._stored()
        self._ahead = next(self._points, None)
        self._taken: set[_Point] = set()
        self._read = 0  # the number of trials read; `_open` are those whose parameters may change
        self._open: set[int] = set()

    @classmethod
    def of(cls, search: SearchSpec, space: SearchSpace) -> Grid | None:
        """Return the grid of a sweep, None unless its sampler is a grid or brute force sampler.

        Raises ConfigError for an infinite space, naming the parameter and the remedy.
        """
        where = f"{search.source}: hydra.sweeper.sampler"
        config = with_target(search.sampler)
        sampler = target(config, "sampler", where)
        if issubclass(sampler, BruteForceSampler):
            # The points of a custom_search_space cannot be counted; the sampler finds them one by one.
            return None if space.custom is not None else cls(space, search.source, proposed=False)
        if not issubclass(sampler, GridSampler):
            return None
        only = config.get("search_space") or {}
        return cls(_restricted(space, only, f"{where}.search_space"), search.source)

    def next(self, study: optuna.Study) -> dict[str, Any]:
        """Return the first point without a trial in the study, as Optuna's names and values.

        It is empty if the sampler proposes the points. Raises LookupError when every point has a trial.
        """
        if not self._proposed:
            return {}
        self._catch_up(study)
        while self._ahead is not None and _point(self._ahead) in self._taken:
            self._ahead = next(self._points, None)
        if self._ahead is None:
            raise LookupError("every point of the grid has a trial")
        return self._ahead

    def _stored(self) -> Iterator[dict[str, Any]]:
        for params in self._space.points():
            yield self._space.to_stored(params)

    def _catch_up(self, study: optuna.Study) -> None:
        trials = study.get_trials(deepcopy=False)
        self._open.update(range(self._read, len(trials)))
        self._read = len(trials)
        for number in list(self._open):
            known = self._known(trials[number])
            if trials[number].state.is_finished() or self._is_whole(known):
                self._taken.add(_point(known))
                self._open.discard(number)  # its parameters are final

    def _known(self, trial: FrozenTrial) -> dict[str, Any]:
        known = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        return {name: value for name, value in known.items() if name in self._names}

    def _is_whole(self, known: Mapping[str, Any]) -> bool:
        """Return whether every active parameter has a value."""
        params: Params = {}
        for parameter in self._space.parameters:
            if parameter.active(params):
                if parameter.name not in known:
                    return False
                params[parameter.key] = parameter.from_stored(known[parameter.name])
        return True


def _point(stored: Mapping[str, Any]) -> _Point:
    # Rounded, since a sampler adds steps in binary: 0.1 + 2 * 0.1 is not exactly 0.3.
    return frozenset((name, round(value, 12) if isinstance(value, float) else value) for name, value in stored.items())


def _restricted(space: SearchSpace, only: Mapping[str, Any], where: str) -> SearchSpace:
    """Return the space with the keys of `only` restricted to its values. Raises ConfigError for wrong ones."""
    for key, values in only.items():
        named = [parameter for parameter in space.parameters if parameter.key == key]
        if not named:
            raise ConfigError(f"{where}: {key}: it is not sampled; {one_of(key, space.keys)}")
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{where}: {key}: '{values}' is no list of values; write them as [1, 2]")
        for value in values:
            if not any(parameter.may_be(value) for parameter in named):
                raise ConfigError(f"{where}: {key}: {value} cannot be chosen; {named[0].range}")
    return replace(space, parameters=tuple(_visiting(parameter, only) for parameter in space.parameters))


def _visiting(parameter: Parameter, only: Mapping[str, Any]) -> Parameter:
    if parameter.key not in only:
        return parameter
    visited = [value for value in only[parameter.key] if parameter.may_be(value)]
    return replace(parameter, visited=tuple(visited))


def _endless(space: SearchSpace, source: str) -> ConfigError:
    if space.custom is not None:
        return ConfigError(
            f"{source}: hydra.sweeper.sampler: a grid needs to know its points, and custom_search_space asks for "
            "others; choose another sampler"
        )
    key = next(parameter.key for parameter in space.parameters if parameter.count() is None)
    return ConfigError(
        f"{source}: {key}: an interval has no number of points, so there is no grid; "
        "write a range(START, STOP, STEP) or a choice(…), or choose another sampler"
    )
