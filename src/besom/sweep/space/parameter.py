"""One dimension of a search space: a config key, its distribution, and when it exists."""

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
    """Holds when the parameter `key` was chosen as one of `values`."""

    key: str
    values: tuple[Any, ...]

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Whether it holds among the parameters chosen so far."""
        return self.key in params and params[self.key] in self.values

    def __str__(self) -> str:
        return f"{self.key}={','.join(str(value) for value in self.values)}"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One dimension of the space: a config key, its distribution, and when it exists.

    `labels` maps what Optuna stores to what the config gets, for choices that Optuna cannot store, such as lists.
    `visited`, where it is given, are the only values of it that a grid visits. `skipped` is the stop of a range that
    its step does not meet.
    """

    key: str
    name: str
    distribution: BaseDistribution
    labels: Mapping[Any, Any]
    conditions: tuple[Condition, ...] = ()
    visited: tuple[Any, ...] | None = None
    skipped: float | None = None

    def active(self, params: Params) -> bool:
        """Whether every condition holds among the parameters chosen so far."""
        return all(condition.holds(params) for condition in self.conditions)

    def suggest(self, trial: Trial) -> Any:
        """Let the trial choose; return the value that the config gets."""
        match self.distribution:
            case FloatDistribution(low=low, high=high, log=log, step=step):
                return trial.suggest_float(self.name, low, high, step=step, log=log)
            case IntDistribution(low=low, high=high, log=log, step=step):
                return trial.suggest_int(self.name, low, high, step=step, log=log)
            case CategoricalDistribution(choices=choices):
                return self.from_stored(trial.suggest_categorical(self.name, choices))
        raise AssertionError(self.distribution)

    def from_stored(self, stored: Any) -> Any:
        """Return what the config gets for what Optuna stores."""
        return self.labels.get(stored, stored) if self.labels else stored

    def to_stored(self, value: Any) -> Any:
        """Return what Optuna stores for what the config gets.

        Raises ValueError when the value cannot be chosen, saying what can.
        """
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                for choice in choices:
                    if _same(self.from_stored(choice), value):
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
        """What can be chosen, in words."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return f"choose from {', '.join(to_text(self.from_stored(choice)) for choice in choices)}"
            case IntDistribution(low=low, high=high, step=step) | FloatDistribution(low=low, high=high, step=step):
                steps = f" in steps of {step:g}" if step not in (None, 1) else ""
                whole = "whole numbers " if isinstance(self.distribution, IntDistribution) else ""
                return f"choose from {whole}{low:g} to {high:g}{steps}"
        raise AssertionError(self.distribution)

    def count(self) -> int | None:
        """How many values there are; None if they cannot be counted."""
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
        """Yield every value that the config can get, in the order of the range, or as the choices are written.

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
                # In decimals, as Hydra counts, so that 0.1 + 2 * 0.1 is 0.3.
                start, width = Decimal(str(low)), Decimal(str(step or 0))
                yield from (float(start + index * width) for index in range(count))

    def examples(self) -> list[Any]:
        """Values to compose once before the sweep starts: every choice, or the lower end of a range."""
        if isinstance(self.distribution, CategoricalDistribution):
            return [self.from_stored(choice) for choice in self.distribution.choices]
        return [self.distribution.low]  # type: ignore[attr-defined]

    def may_be(self, value: Any) -> bool:
        """Whether the value can be chosen, and a grid would visit it."""
        try:
            self.to_stored(value)
        except ValueError:
            return False
        return self.visited is None or value in self.visited


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_step(distance: float, step: float | None) -> bool:
    return step is None or abs(distance - round(distance / step) * step) <= 1e-8 * max(step, abs(distance))


def _same(one: Any, other: Any) -> bool:
    """Whether they are equal, true and 1 told apart, 1 and 1.0 not."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
