"""Enumeration of a search space with conditions: the number of its points, and the points themselves.

A space with conditions is a tree, not a product. Values that no condition distinguishes are counted as one class, so
that counting a billion points takes no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from besom.sweep.space.parameter import Parameter, Params

_OTHER = -1  # the class of all values that no condition names

_Known = frozenset[tuple[str, int]]  # the chosen class of each key that later parameters depend on


class Tree:
    """The tree of a space's points; `parameters` are ordered, each after those in its conditions."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._parameters = parameters
        self._named: dict[str, list[Any]] = {}
        self._last: dict[str, int] = {}
        keys = [parameter.key for parameter in parameters]
        for index, parameter in enumerate(parameters):
            if keys.count(parameter.key) > 1:
                self._last[parameter.key] = index
            for condition in parameter.conditions:
                named = self._named.setdefault(condition.key, [])
                named += [value for value in condition.values if value not in named]
                self._last[condition.key] = max(index, self._last.get(condition.key, 0))
        self._counted: dict[tuple[int, _Known], int | None] = {}
        self._twice: Parameter | None = None

    def size(self) -> int | None:
        """Return the number of points, None if they cannot be counted."""
        return self._count(0, frozenset())

    def chosen_twice(self) -> Parameter | None:
        """Return a parameter whose key is sampled twice at some point of the space, None if there is none."""
        self.size()
        return self._twice

    def points(self, index: int = 0, chosen: Params | None = None) -> Iterator[Params]:
        """Yield every point, the first parameter changing slowest.

        Raises ValueError when they cannot be counted.
        """
        chosen = chosen or {}
        if index == len(self._parameters):
            yield dict(chosen)
            return
        parameter = self._parameters[index]
        if not parameter.active(chosen):
            yield from self.points(index + 1, chosen)
            return
        for value in parameter.values():
            yield from self.points(index + 1, {**chosen, parameter.key: value})

    def _count(self, index: int, known: _Known) -> int | None:
        if index == len(self._parameters):
            return 1
        known = frozenset((key, chosen) for key, chosen in known if self._last[key] >= index)
        if (index, known) not in self._counted:
            self._counted[index, known] = self._count_from(self._parameters[index], index, dict(known))
        return self._counted[index, known]

    def _count_from(self, parameter: Parameter, index: int, known: dict[str, int]) -> int | None:
        if not self._active(parameter, known):
            return self._count(index + 1, frozenset(known.items()))
        if parameter.key in known:
            self._twice = parameter
        total: int | None = 0
        for chosen, number in self._classes(parameter):
            if parameter.key in self._last:
                known[parameter.key] = chosen
            below = self._count(index + 1, frozenset(known.items()))
            total = None if total is None or number is None or below is None else total + number * below
        return total

    def _active(self, parameter: Parameter, known: dict[str, int]) -> bool:
        return all(
            known.get(condition.key, _OTHER) != _OTHER
            and self._named[condition.key][known[condition.key]] in condition.values
            for condition in parameter.conditions
        )

    def _classes(self, parameter: Parameter) -> Iterator[tuple[int, int | None]]:
        """Yield the classes of a parameter's values, and the number of values in each."""
        named = [index for index, value in enumerate(self._named.get(parameter.key, ())) if parameter.may_be(value)]
        yield from ((index, 1) for index in named)
        count = parameter.count()
        if count is None or count > len(named):
            yield _OTHER, None if count is None else count - len(named)
