"""Constraints on a trial's metrics, such as `cost/params <= 50000` or `train/acc - val/acc <= 0.1`.

    constraint: sum ("<=" | "<" | ">=" | ">") sum
    sum:        product (("+" | "-") product)*
    product:    ["-"] (number | metric) ("*" (number | metric))*

A metric's name begins with a letter or `_`, followed by letters, digits, `_`, `.`, `/` and `@`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from besom.errors import ConfigError, one_of

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w/@.]))|(?P<metric>[A-Za-z_][\w/@.]*)"
    r"|(?P<sign><=|>=|<|>|\+|-|\*))"
)
_COMPARISONS = ("<=", "<", ">=", ">")
_EXAMPLE = "write it like cost/params <= 50000, or train/acc - val/acc <= 0.1"


@dataclass(frozen=True, kw_only=True)
class _Product:
    """A product of a number and metrics."""

    factor: float
    metrics: tuple[str, ...]

    def value(self, metrics: Mapping[str, float]) -> float:
        return self.factor * math.prod(metrics[name] for name in self.metrics)


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A constraint that a sum of products of metrics is at most zero, or below zero if it is `strict`."""

    key: str
    source: str
    strict: bool
    products: tuple[_Product, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of its metrics, each once."""
        return tuple(dict.fromkeys(name for product in self.products for name in product.metrics))

    def value(self, metrics: Mapping[str, float]) -> float:
        """Return the violation: zero or less if the constraint holds, infinity if a metric is NaN.

        Raises ConfigError naming a metric that was never logged.
        """
        for name in self.metrics:
            if name not in metrics:
                raise ConfigError(
                    f"{self.source}: hydra.sweeper.constraints: '{self.key}' speaks of {name}, which was never "
                    f"measured; {one_of(name, sorted(metrics))}"
                )
        total = sum(product.value(metrics) for product in self.products)
        if math.isnan(total):
            return math.inf
        return math.ulp(0.0) if self.strict and total == 0 else total


def parse_constraints(texts: Sequence[str], source: str) -> tuple[Constraint, ...]:
    """Parse constraints; `source` names the sweep file, for messages.

    Raises ConfigError for a text that does not compare two sums of metrics.
    """
    constraints = tuple(_constraint(str(text), source) for text in texts)
    keys = [constraint.key for constraint in constraints]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{source}: hydra.sweeper.constraints: '{key}' is there twice; take one out")
    return constraints


def _constraint(text: str, source: str) -> Constraint:
    where = f"{source}: hydra.sweeper.constraints: '{text}'"
    tokens = _tokens(text, where)
    compared = [index for index, token in enumerate(tokens) if token in _COMPARISONS]
    if len(compared) != 1:
        many = "compares nothing" if not compared else "compares more than once"
        raise ConfigError(f"{where} {many}; {_EXAMPLE}")
    left, sign, right = tokens[: compared[0]], tokens[compared[0]], tokens[compared[0] + 1 :]
    if sign[0] == ">":
        left, right = right, left
    products = (*_sum(left, where), *(_times(product, -1) for product in _sum(right, where)))
    constraint = Constraint(key=" ".join(tokens), source=source, strict=len(sign) == 1, products=products)
    if not constraint.metrics:
        raise ConfigError(f"{where} speaks of no metric; {_EXAMPLE}")
    return constraint


def _tokens(text: str, where: str) -> list[str]:
    tokens, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ConfigError(f"{where} cannot be read from '{text[at:].strip()}' on; {_EXAMPLE}")
        tokens.append(match[0].strip())
        at = match.end()
    return tokens


def _sum(tokens: Sequence[str], where: str) -> list[_Product]:
    """Parse a sum: an operand after each sign, and a sign between two operands."""
    products: list[_Product] = []
    product = _Product(factor=1.0, metrics=())
    expects_operand = True
    for token in tokens:
        if expects_operand and token == "-":
            product = _times(product, -1)
        elif expects_operand and token in ("+", "*"):
            break
        elif expects_operand:
            product, expects_operand = _with(product, token), False
        elif token == "*":
            expects_operand = True
        elif token in ("+", "-"):
            products.append(product)
            product, expects_operand = _Product(factor=-1.0 if token == "-" else 1.0, metrics=()), True
        else:
            raise ConfigError(f"{where} has no sign before '{token}'; {_EXAMPLE}")
    if expects_operand:
        raise ConfigError(f"{where} lacks a metric or a number; {_EXAMPLE}")
    return [*products, product]


def _times(product: _Product, factor: float) -> _Product:
    return _Product(factor=product.factor * factor, metrics=product.metrics)


def _with(product: _Product, token: str) -> _Product:
    if token[0].isdigit() or token[0] == ".":
        return _times(product, float(token))
    return _Product(factor=product.factor, metrics=(*product.metrics, token))
