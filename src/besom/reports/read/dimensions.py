"""The sampled parameters as axes of plots: numeric ones linear or logarithmic, choices side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial

from besom.reports.format import short
from besom.reports.read.trials import plain_params
from besom.svg.axis import Axis, axis_of, log_axis_of


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """A sampled parameter and the axis of its values.

    `choices` are those of a categorical parameter, else empty; `share` is the share of trials that have the parameter.
    """

    key: str
    axis: Axis
    choices: tuple[Any, ...] = ()
    share: float = 1.0

    @property
    def is_number(self) -> bool:
        """True if it is numeric."""
        return not self.choices

    def place(self, value: Any) -> float:
        """Return the axis coordinate of a value: the number itself, or a choice's index."""
        return float(list(map(repr, self.choices)).index(repr(value)) if self.choices else value)


def dimensions(trials: Sequence[FrozenTrial]) -> tuple[Dimension, ...]:
    """Return the parameters of these trials, in the order of their first appearance."""
    kinds: dict[str, list[BaseDistribution]] = {}
    values: dict[str, list[Any]] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            kinds.setdefault(name.partition(" ")[0], []).append(distribution)
        for key, value in plain_params(trial).items():
            values.setdefault(key, []).append(value)
    return tuple(_dimension(key, kinds[key], found, len(found) / len(trials)) for key, found in values.items())


def _dimension(key: str, kinds: Sequence[BaseDistribution], values: Sequence[Any], share: float) -> Dimension:
    if any(isinstance(kind, CategoricalDistribution) for kind in kinds):
        offered = [one for kind in kinds if isinstance(kind, CategoricalDistribution) for one in kind.choices]
        choices = tuple({repr(one): one for one in [*offered, *values]}.values())  # not every value can be hashed
        ticks = [(float(place), short(one)) for place, one in enumerate(choices)]
        return Dimension(key=key, axis=Axis(-0.5, len(choices) - 0.5, ticks), choices=choices, share=share)
    if any(getattr(kind, "log", False) for kind in kinds):
        return Dimension(key=key, axis=log_axis_of(values), share=share)
    whole = all(isinstance(kind, IntDistribution) for kind in kinds)
    return Dimension(key=key, axis=axis_of(values, whole=whole), share=share)


def objective_axis(values: Sequence[float], *, maximize: bool, also: Sequence[float] = ()) -> Axis:
    """Return an axis for the objective values of trials, which outliers among the worst do not stretch.

    It extends well beyond the best three quarters, to all values if none is far from there, and always to `also`. It is
    logarithmic if less is better and the best three quarters span more than a factor of ten.
    """
    ordered = sorted(values, reverse=maximize)
    if len(ordered) < 8:
        return axis_of(ordered)
    best, usual, worst = ordered[0], ordered[len(ordered) * 3 // 4 - 1], ordered[-1]
    if not maximize and 0 < 10 * best < usual:
        return log_axis_of(ordered)
    if usual != best and abs(worst - best) > 4 * abs(usual - best):
        end = best + 2.5 * (usual - best)
        ordered = [best, end, *(value for value in ordered if min(best, end) <= value <= max(best, end)), *also]
    return axis_of(ordered)


def spread_axis(values: Sequence[float]) -> Axis:
    """Return an axis for a cost, logarithmic if the values span more than a factor of thirty."""
    positive = values and min(values) > 0
    return log_axis_of(values) if positive and max(values) > 30 * min(values) else axis_of(values)


def within(axis: Axis, value: float) -> float:
    """Return the value clipped to the axis."""
    return max(axis.low, min(axis.high, value))


def differing(params: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values differ among these parameters, or are missing in some."""
    keys = dict.fromkeys(key for one in params for key in one)
    return [key for key in keys if len({repr(one.get(key, _MISSING)) for one in params}) > 1]


_MISSING = object()
