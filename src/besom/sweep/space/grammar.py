"""Conversion of Hydra's override grammar to Optuna's distributions.

The rules are those of hydra-optuna-sweeper 1.4: a range ends before its stop, an interval is continuous unless it is
cast by `int(…)`, a shuffled range is a choice. In addition, a range may have a log scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, QuotedString, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from besom.errors import one_of
from besom.sweep.space.overrides import to_text


def distribution(override: Override) -> tuple[BaseDistribution, Mapping[Any, Any]]:
    """Return an override's distribution, and a map from stored labels to choices that Optuna cannot store.

    Raises ValueError, with the reason and the remedy, for an override that cannot be sampled.
    """
    value = override.value()
    log = "log" in getattr(value, "tags", ())
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        return _numeric(value.start, value.end, None, log=log), {}
    if isinstance(value, RangeSweep):
        value = _cast(value)
        points = range_points(value)
        if value.shuffle:
            return _categorical(points)
        step = abs(value.step or 1)
        return _numeric(min(points[0], points[-1]), max(points[0], points[-1]), step, log=log), {}
    if log:
        raise ValueError("a choice has no log scale; take the tag away, or write an interval or a range")
    if isinstance(value, ChoiceSweep):
        return _categorical(value.list)  # in written order: a shuffled one would differ on resume
    return _categorical(list(override.sweep_iterator()) if override.is_sweep_override() else [value])


def _cast(sweep: RangeSweep) -> RangeSweep:
    """Return a range with its bounds cast by `float(…)` or `int(…)`.

    Hydra 1.3 casts the bounds itself; 1.4 leaves them and casts each number of the range.
    """
    cast = copy(sweep)
    for transform in getattr(sweep, "transformers", ()):
        cast.start, cast.stop, cast.step = transform(cast.start), transform(cast.stop), transform(cast.step)
        cast.transformers = ()  # type: ignore[attr-defined]
    return cast


def range_points(sweep: RangeSweep) -> Sequence[float]:
    """Return the numbers of a range without its stop.

    They are computed as decimals, so that range(0.1, 0.4, 0.1) is 0.1, 0.2, 0.3. Raises ValueError for an empty range.
    """
    sweep = _cast(sweep)
    assert sweep.start is not None
    assert sweep.stop is not None
    bounds = (sweep.start, sweep.stop, sweep.step or 1)
    empty = ValueError(f"range({', '.join(map(str, bounds))}) is empty; count from the start to the stop")
    if not all(map(math.isfinite, bounds)):
        raise ValueError(f"range({', '.join(map(str, bounds))}) has no end; name finite bounds")
    if all(isinstance(bound, int) for bound in bounds):
        numbers = range(*bounds)  # type: ignore[arg-type]
        if not numbers:
            raise empty
        return numbers
    start, stop, step = (Decimal(str(bound)) for bound in bounds)
    count = math.ceil((stop - start) / step)
    if count <= 0:
        raise empty
    return _Decimals(start, step, count)


def skipped_stop(override: Override) -> float | None:
    """Return the stop of a range if its steps do not reach it, such as 10 of range(0, 10, 4): 0, 4, 8.

    Return None for a stop just after the last number, as in range(32, 257, 32).
    """
    value = override.value()
    if not isinstance(value, RangeSweep) or value.start is None or value.stop is None:
        return None
    sweep = _cast(value)
    step = abs(Decimal(str(sweep.step or 1)))
    beyond = abs(Decimal(str(sweep.stop)) - Decimal(str(sweep.start))) % step  # distance from the last number
    just = beyond == 1 if isinstance(sweep.stop, int) else beyond < step / 2
    return None if just or not beyond else sweep.stop


class _Decimals(Sequence[float]):
    """The floats of a range, computed on access, since there may be too many for a list."""

    def __init__(self, start: Decimal, step: Decimal, count: int) -> None:
        self._start = start
        self._step = step
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        numbers = range(self._count)[index]
        if isinstance(numbers, range):
            return [self[number] for number in numbers]
        return float(self._start + numbers * self._step)


_KEYS = {
    "float": ("low", "high", "log", "step"),
    "int": ("low", "high", "log", "step"),
    "categorical": ("choices",),
}


def from_mapping(node: Mapping[str, Any]) -> str:
    """Return the text in Hydra's grammar for `{type: float, low: 0, high: 1}`, hydra-optuna-sweeper's older form.

    Types are float, int and categorical; `high` is included. Raises ValueError with the reason and the remedy.
    """
    kind = node.get("type")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise ValueError(
            f"a mapping is no value to choose; its type must be one of {', '.join(_KEYS)}, as in "
            "{type: float, low: 0.1, high: 1}; write a key inside of another one as outer.inner"
        )
    for key in node:
        if key not in ("type", *_KEYS[kind]):
            raise ValueError(f"there is no {key} in {kind}; {one_of(str(key), _KEYS[kind])}")
    if kind == "categorical":
        choices = node.get("choices")
        if not isinstance(choices, list | tuple) or not choices:
            raise ValueError("there is nothing to choose from; add choices: [A, B]")
        listed = ",".join(map(to_text, choices))
        return listed if len(choices) > 1 else f"choice({listed})"  # choice(…) takes no null
    cast = float if kind == "float" else int
    for key in ("low", "high", "step"):
        value = node.get(key)
        if not (isinstance(value, int | float) or (key == "step" and value is None)) or isinstance(value, bool):
            raise ValueError(f"{key} is {value}; give a number")
    low, high = cast(node["low"]), cast(node["high"])
    text = _numbers(low, high, None if node.get("step") is None else cast(node["step"]), continuous=kind == "float")
    return f"tag(log,{text})" if node.get("log") else text


def _numbers(low: float, high: float, step: float | None, *, continuous: bool) -> str:
    if continuous and step is None:
        return f"interval({low!r},{high!r})"
    width = Decimal(str(step or 1))
    # The end of a range in the grammar is excluded.
    past = Decimal(1) if not continuous else width / 4 if (Decimal(str(high)) - Decimal(str(low))) % width == 0 else 0
    return f"range({low!r},{Decimal(str(high)) + past},{width})"


def plain(choice: Any) -> Any:
    """Return a value of the override grammar as a plain value of the config."""
    if isinstance(choice, QuotedString):
        return choice.text
    if isinstance(choice, list):
        return [plain(item) for item in choice]
    if isinstance(choice, dict):
        return {plain(key): plain(value) for key, value in choice.items()}
    return choice


def _categorical(choices: Sequence[Any]) -> tuple[BaseDistribution, Mapping[Any, Any]]:
    values = [plain(choice) for choice in choices]
    if not values:
        raise ValueError("nothing to choose from; name at least one value")
    if len(set(map(repr, values))) < len(values):
        raise ValueError("a choice names the same value twice; name each once")
    stored: list[Any] = []
    for value in values:
        storable = isinstance(value, str | int | float | bool | None)
        # For Optuna, True, 1 and 1.0 are equal.
        stored.append(value if storable and value not in stored else repr(value))
    labels = {label: value for label, value in zip(stored, values, strict=True) if label is not value}
    return CategoricalDistribution(stored), labels


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
