"""Failures by cause, and what the failed trials have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

from besom.reports.format import short
from besom.secrets.masks import mask

Params = Mapping[str, Any]

EXAMPLES = 5
"""The number of trials listed per cause."""

_PARTICULARS = re.compile(
    "|".join(
        f"(?P<{kind}>{pattern})"
        for kind, pattern in (
            ("address", r"\b0x[0-9a-fA-F]+"),
            ("shape", r"\b\d+(?:x\d+)+\b"),
            ("path", r"(?<![\w.])(?:~|\.{1,2})?/(?:[^\s/:'\"]+/)*[^\s/:'\",;)]+"),
            ("id", r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{12,}\b"),
            (
                "number",
                r"(?<![\w.])[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?=[^\w.]|[a-zA-Z]{1,3}\b|\.?(?:\s|$))",
            ),
            ("infinite", r"(?<![\w.])[-+]?inf(?:inity)?\b"),
            ("nan", r"(?<![\w.])[-+]?nan\b"),
        )
    )
)
"""The parts that vary among failures of one cause: an address, a path, a number or a process id."""

_PLACEHOLDERS = {"shape": "#x#", "path": "/…", "number": "#", "infinite": "inf", "nan": "nan"}


@dataclass(frozen=True, kw_only=True)
class FailureGroup:
    """Trials that failed for one cause: their common reason, their numbers, what they have in common."""

    reason: str
    trials: tuple[int, ...]
    shared: str | None = None

    def __str__(self) -> str:
        which = f"trial{'s' * (len(self.trials) > 1)} {numbered(self.trials)}"
        return f"{len(self.trials)} failed: {self.reason}   ({which})"


def numbered(trials: Sequence[int]) -> str:
    """Return trial numbers as text, only the first few of many."""
    return ", ".join([*map(str, trials[:EXAMPLES]), *["…"] * (len(trials) > EXAMPLES)])


def one_line(text: str) -> str:
    """Return the text on one line, without control characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def cause(reason: str) -> str:
    """Return a reason without its numbers, paths, addresses and process ids: equal for failures of one cause."""
    return one_line(_PARTICULARS.sub(lambda found: _PLACEHOLDERS.get(found.lastgroup or "", "…"), reason))


def _common_reason(reasons: Sequence[str]) -> str:
    """Merge reasons of one cause into one text, with a number's range or `…` for the parts that differ."""
    different = list(dict.fromkeys(reasons))
    if len(different) == 1:
        return one_line(different[0])
    found = [[one.group() for one in _PARTICULARS.finditer(reason)] for reason in different]
    if len({len(particulars) for particulars in found}) > 1:  # one of them contains a placeholder literally
        return cause(different[0])
    merged = map(_range, zip(*found, strict=True))
    return one_line(_PARTICULARS.sub(lambda _: next(merged), different[0]))


def _range(particulars: Sequence[str]) -> str:
    if len(set(particulars)) == 1:
        return particulars[0]
    try:
        low, *_, high = sorted(particulars, key=float)
    except ValueError:
        return "…"
    return f"{low}…{high}"


def group_failures(failed: Mapping[int, tuple[str, Params]], others: Sequence[Params]) -> tuple[FailureGroup, ...]:
    """Group failed trials by cause, the most frequent first.

    `failed` has reason and parameters by trial number; `others` are the parameters of the trials that did not fail. The
    parameters may include where a trial ran.
    """
    by_cause: dict[str, list[int]] = {}
    for trial in sorted(failed):
        by_cause.setdefault(cause(failed[trial][0]), []).append(trial)
    return tuple(
        FailureGroup(
            reason=mask(_common_reason([failed[trial][0] for trial in trials])),
            trials=tuple(trials),
            shared=_masked(in_common([failed[trial][1] for trial in trials], others)),
        )
        for trials in sorted(by_cause.values(), key=lambda trials: -len(trials))
    )


def _masked(text: str | None) -> str | None:
    return None if text is None else mask(text)


@dataclass(frozen=True, kw_only=True)
class _Clue:
    """A condition that holds for the trials `failed` among the failed ones, and `others` among the others, by index."""

    text: str
    failed: frozenset[int]
    others: frozenset[int]


_MOST = 0.9
"""The minimum share of the failed trials that satisfy a condition."""

_CHANCE = 0.01
"""The significance level, with a Bonferroni correction for the number of conditions tried."""


def in_common(failed: Sequence[Params], others: Sequence[Params]) -> str | None:
    """Return which values, or ranges of values, nearly all failed trials share and the others do not, as text.

    Up to three conditions are named, each only if it excludes more of the others. None if fewer than two trials failed,
    there are no others to compare with, or no condition is significant.
    """
    if len(failed) < 2 or not others:
        return None
    clues = [clue for key in _keys(failed) for clue in _clues(key, failed, others)]
    tried = len(clues)
    clues = [clue for clue in clues if len(clue.failed) >= _MOST * len(failed)]
    chosen: list[_Clue] = []
    alike = frozenset(range(len(others)))  # the others that satisfy all conditions too
    while clues and len(chosen) < 3:
        best = min(clues, key=lambda clue: (len(clue.others & alike), -len(clue.failed), len(clue.text)))
        if len(alike) - len(best.others & alike) < max(1, 0.1 * len(others)):
            break
        alike &= best.others
        chosen.append(best)
        clues.remove(best)
    if not chosen:
        return None
    inside, outside = len(frozenset.intersection(*(clue.failed for clue in chosen))), len(alike)
    chance = _chance(inside, len(failed), outside, len(others)) * tried ** len(chosen)
    if inside < _MOST * len(failed) or outside > 0.2 * len(others) or chance > _CHANCE:
        return None
    text = " and ".join(clue.text for clue in sorted(chosen, key=lambda clue: len(clue.others)))
    return f"{_of(inside, len(failed))} with {text}; {_of_others(outside, len(others))}"


def _chance(inside: int, failed: int, outside: int, others: int) -> float:
    """Return the probability that at least `inside` failed trials satisfy a condition by chance.

    By the hypergeometric distribution, with `inside + outside` of all trials satisfying it.
    """
    having, total = inside + outside, failed + others
    ways = sum(comb(having, count) * comb(total - having, failed - count) for count in range(inside, failed + 1))
    return ways / comb(total, failed)


def _keys(trials: Sequence[Params]) -> list[str]:
    return list(dict.fromkeys(key for params in trials for key in params))


def _clues(key: str, failed: Sequence[Params], others: Sequence[Params]) -> list[_Clue]:
    """Return the conditions on one parameter: its values, or bounds of the failed trials' values."""
    values = [params[key] for params in failed if key in params]
    if not values:
        return []
    if not all(_is_number(value) for value in values):
        return [_clue(f"{key}={common}", key, common.__eq__, failed, others) for common in _distinct(values)]
    ordered = sorted(values)
    if ordered[0] == ordered[-1]:
        return [_clue(f"{key}={short(ordered[0])}", key, ordered[0].__eq__, failed, others)]
    # One failure in ten may be outside.
    spare = int((1 - _MOST) * len(failed))
    low, high = ordered[spare], ordered[-1 - spare]
    above = [params[key] for params in others if _is_number(params.get(key)) and params[key] < low]
    below = [params[key] for params in others if _is_number(params.get(key)) and params[key] > high]
    found = []
    if above:
        outer = max(above)
        bound, told = _bound(outer, min(value for value in ordered if value > outer), "above", "or more")
        found.append(_clue(f"{key} {told}", key, lambda value: _is_number(value) and value >= bound, failed, others))
    if below:
        outer = min(below)
        limit, told = _bound(outer, max(value for value in ordered if value < outer), "below", "or less")
        found.append(_clue(f"{key} {told}", key, lambda value: _is_number(value) and value <= limit, failed, others))
    return found


def _clue(text: str, key: str, holds: Any, failed: Sequence[Params], others: Sequence[Params]) -> _Clue:
    def held(trials: Sequence[Params]) -> frozenset[int]:
        return frozenset(index for index, params in enumerate(trials) if key in params and holds(params[key]) is True)

    return _Clue(text=text, failed=held(failed), others=held(others))


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list({repr(value): value for value in values}.values())  # not every value can be hashed


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bound(outer: float, inner: float, beyond: str, from_there: str) -> tuple[float, str]:
    """Return a bound between `inner`, the failed trials' last value, and `outer`, with few digits, and its text."""
    if isinstance(inner, int):
        return inner, f"{inner} {from_there}"
    low, high = min(outer, inner), max(outer, inner)
    for digits in range(1, 12):
        for number in (float(f"{outer:.{digits}g}"), float(f"{inner:.{digits}g}")):
            if low <= number <= high and number != inner:
                return inner, f"{beyond} {number:g}"
    return inner, f"{inner:g} {from_there}"


def _of(count: int, total: int) -> str:
    return f"all {total}" if count == total else f"{count} of {total}"


def _of_others(count: int, total: int) -> str:
    others = "the other one" if total == 1 else f"the {total} others"
    return f"{'not ' if total == 1 else 'none of '}{others}" if count == 0 else f"{count} of {others}"
