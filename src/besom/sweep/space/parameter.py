"""The parameters of a search space, and their conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from besom.sweep.space.overrides import to_text

Params = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition that the parameter `key` has one of `values`."""

    key: str
    values: tuple[Any, ...]

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Return whether it holds for the parameters chosen so far."""
        return self.key in params and params[self.key] in self.values

    def __str__(self) -> str:
        return f"{self.key}={','.join(str(value) for value in self.values)}"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of the search space: a config key, its distribution, and its conditions.

    `labels` maps stored labels to values of the config, for choices that Optuna cannot store, such as lists. `visited`
    restricts the values that a grid visits, unless it is None. `skipped` is the stop of a range that its steps do not
    reach.
    """

    key: str
    name: str
    distribution: BaseDistribution
    labels: Mapping[Any, Any]
    conditions: tuple[Condition, ...] = ()
    visited: tuple[Any, ...] | None = None
    skipped: float | None = None

    def active(self, params: Params) -> bool:
        """Return whether every condition holds for the parameters chosen so far."""
        return all(condition.holds(params) for condition in self.conditions)

    def suggest(self, trial: Trial) -> Any:
        """Let the trial suggest a value; return it as the config has it."""
        match self.distribution:
            case FloatDistribution(low=low, high=high, log=log, step=step):
                return trial.suggest_float(self.name, low, high, step=step, log=log)
            case IntDistribution(low=low, high=high, log=log, step=step):
                return trial.suggest_int(self.name, low, high, step=step, log=log)
            case CategoricalDistribution(choices=choices):
                return self.from_stored(trial.suggest_categorical(self.name, choices))
        raise AssertionError(self.distribution)

    def from_stored(self, stored: Any) -> Any:
        """Return the config's value for a value stored by Optuna."""
        return self.labels.get(stored, stored) if self.labels else stored

    def to_stored(self, value: Any) -> Any:
        """Return the value that Optuna stores for a value of the config.

        Raises ValueError, which names the possible values, when the value cannot be chosen.
        """
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                for choice in choices:
                    if same_value(self.from_stored(choice), value):
                        return choice
            case IntDistribution(low=low, high=high, step=step):
                if _is_number(value) and low <= value <= high and value == int(value) and (value - low) % step == 0:
                    return int(value)
            case FloatDistribution(low=low, high=high, step=step):
                if _is_number(value) and low <= value <= high and _is_step(value - low, step):
                    return float(value)
        raise ValueError(f"{to_text(value)} cannot be chosen; {self.range}")

    @property
    def range(self) -> str:
        """The possible values as text."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return f"choose from {', '.join(to_text(self.from_stored(choice)) for choice in choices)}"
            case IntDistribution(low=low, high=high, step=step) | FloatDistribution(low=low, high=high, step=step):
                steps = f" in steps of {step:g}" if step not in (None, 1) else ""
                whole = "whole numbers " if isinstance(self.distribution, IntDistribution) else ""
                return f"choose from {whole}{low:g} to {high:g}{steps}"
        raise AssertionError(self.distribution)

    def count(self) -> int | None:
        """Return the number of values, None if they cannot be counted."""
        if self.visited is not None:
            return len(self.visited)
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return len(choices)
            case IntDistribution(low=low, high=high, step=step):
                return (high - low) // step + 1
            case FloatDistribution(low=low, high=high, step=step):
                if low == high:
                    return 1
                return None if step is None else round((high - low) / step) + 1
        raise AssertionError(self.distribution)

    def values(self) -> Iterator[Any]:
        """Yield every value of the config, in the order of the range or of the written choices.

        Raises ValueError when they cannot be counted.
        """
        count = self.count()
        if count is None:
            raise ValueError("an interval without a step has no number of points; write a range(…) or a choice(…)")
        if self.visited is not None:
            yield from self.visited
            return
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                yield from map(self.from_stored, choices)
            case IntDistribution(low=low, high=high, step=step):
                yield from range(low, high + 1, step)
            case FloatDistribution(low=low, step=step):
                # As decimals, as Hydra computes them, so that 0.1 + 2 * 0.1 is 0.3.
                start, width = Decimal(str(low)), Decimal(str(step or 0))
                yield from (float(start + index * width) for index in range(count))

    def examples(self) -> list[Any]:
        """Return the values to compose once before the sweep starts: every choice, or the lower end of a range."""
        if isinstance(self.distribution, CategoricalDistribution):
            return [self.from_stored(choice) for choice in self.distribution.choices]
        return [self.distribution.low]  # type: ignore[attr-defined]

    def may_be(self, value: Any) -> bool:
        """Return whether the value can be chosen and a grid would visit it."""
        try:
            self.to_stored(value)
        except ValueError:
            return False
        return self.visited is None or value in self.visited


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_step(distance: float, step: float | None) -> bool:
    return step is None or abs(distance - round(distance / step) * step) <= 1e-8 * max(step, abs(distance))


def same_value(one: Any, other: Any) -> bool:
    """Return whether two values are equal; True differs from 1, 1 does not differ from 1.0."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
