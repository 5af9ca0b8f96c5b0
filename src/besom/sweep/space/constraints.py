"""Constraints on a trial's metrics, such as `cost/params <= 50000` or `train/acc - val/acc <= 0.1`.

A constraint compares two expressions of metrics, numbers, `+`, `-`, `*`, `/` and parentheses by `<=`, `<`, `>=` or `>`.
A metric's name begins with a letter or `_`, followed by letters, digits, `_`, `.`, `@` and `/`; other slashes divide.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from besom.errors import ConfigError, one_of

_METRIC = re.compile(r"(?<![\w.])[A-Za-z_][\w.@]*(?:/[\w.@]+)*")
_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_EXAMPLE = "write it like cost/params <= 50000, or (train/acc - val/acc) / val/acc <= 0.1"

_Expression = Callable[[Mapping[str, float]], float]


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A constraint that an expression of `metrics` is at most zero, or below zero if it is `strict`."""

    key: str
    source: str
    strict: bool
    expression: _Expression
    metrics: tuple[str, ...]

    def value(self, metrics: Mapping[str, float]) -> float:
        """Return the violation: zero or less if the constraint holds, infinity for NaN and a division by zero.

        Raises ConfigError naming a metric that was never logged.
        """
        for name in self.metrics:
            if name not in metrics:
                raise ConfigError(
                    f"{self.source}: hydra.sweeper.constraints: '{self.key}' speaks of {name}, which was never "
                    f"measured; {one_of(name, sorted(metrics))}"
                )
        try:
            value = self.expression(metrics)
        except ArithmeticError:
            return math.inf
        if math.isnan(value):
            return math.inf
        return math.ulp(0.0) if self.strict and value == 0 else value


def parse_constraints(texts: Sequence[str], source: str) -> tuple[Constraint, ...]:
    """Parse constraints; `source` names the sweep file, for messages.

    Raises ConfigError for a text that does not compare two expressions of metrics.
    """
    constraints = tuple(_constraint(str(text), source) for text in texts)
    keys = [constraint.key for constraint in constraints]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{source}: hydra.sweeper.constraints: '{key}' is there twice; take one out")
    return constraints


def _constraint(text: str, source: str) -> Constraint:
    where = f"{source}: hydra.sweeper.constraints: '{text}'"
    try:
        match compared := _parse(" ".join(text.split())):
            case ast.Compare(left=left, ops=[ast.LtE() | ast.Lt() as sign], comparators=[right]):
                expression = _expression(ast.BinOp(left, ast.Sub(), right))
            case ast.Compare(left=left, ops=[ast.GtE() | ast.Gt() as sign], comparators=[right]):
                expression = _expression(ast.BinOp(right, ast.Sub(), left))
            case _:
                raise SyntaxError
    except (SyntaxError, ValueError, RecursionError):
        raise ConfigError(f"{where} is not one comparison of metrics and numbers; {_EXAMPLE}") from None
    metrics = tuple(dict.fromkeys(node.id for node in ast.walk(compared) if isinstance(node, ast.Name)))
    if not metrics:
        raise ConfigError(f"{where} speaks of no metric; {_EXAMPLE}")
    strict = isinstance(sign, ast.Lt | ast.Gt)
    return Constraint(key=ast.unparse(compared), source=source, strict=strict, expression=expression, metrics=metrics)


def _parse(text: str) -> ast.expr:
    """Parse an expression whose names are metrics. Raises what `ast.parse` raises."""
    parsed = ast.parse(_METRIC.sub(lambda name: "x" * len(name[0]), text), mode="eval").body
    for node in ast.walk(parsed):
        if isinstance(node, ast.Name):
            node.id = text[node.col_offset : node.end_col_offset]
    return parsed


def _expression(node: ast.expr) -> _Expression:
    """Return a function that evaluates a node. Raises SyntaxError for anything but arithmetic."""
    match node:
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            apply, first, second = _OPERATORS[type(sign)], _expression(left), _expression(right)
            return lambda metrics: float(apply(first(metrics), second(metrics)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _expression(operand)
            return lambda metrics: -inner(metrics)
        case ast.Name(id=name):
            return operator.itemgetter(name)
        case ast.Constant(value=int() | float() as number):
            return lambda _: number
    raise SyntaxError
