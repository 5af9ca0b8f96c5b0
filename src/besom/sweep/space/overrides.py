"""Overrides in Hydra's grammar, as `besom train` takes them on its command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

# Text that the grammar reads as a string without quotes: not null, true, false, inf or nan.
_PLAIN = re.compile(r"(?!(null|true|false|inf|nan)\Z)[a-z_][a-z0-9_]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A trial's overrides in their written order, those of the file before those of the command line.

    `texts` are the overrides that are the same for every trial, by their keys; the other keys of `order` are sampled.
    """

    order: tuple[str, ...]
    texts: Mapping[str, str]

    @classmethod
    def of(cls, fixed: Sequence[str]) -> Line:
        """Return a line of overrides that are the same for every trial."""
        return cls(order=tuple(fixed), texts={text: text for text in fixed})

    @property
    def fixed(self) -> list[str]:
        """The overrides that are the same for every trial."""
        return [self.texts[key] for key in self.order if key in self.texts]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fixed)

    def filled(self, params: Mapping[str, Any]) -> list[str]:
        """Return the overrides for these parameters in the order of the line; keys that are not in it come last."""
        written = [
            self.texts[key] if key in self.texts else to_override(key, params[key])
            for key in self.order
            if key in self.texts or key in params
        ]
        return written + [to_override(key, value) for key, value in params.items() if key not in self.order]


def to_overrides(params: Mapping[str, Any]) -> list[str]:
    """Return Hydra overrides that set these values."""
    return [to_override(key, value) for key, value in params.items()]


def to_override(key: str, value: Any) -> str:
    """Return the Hydra override that sets this value."""
    return f"{key}={to_text(value)}"


def to_text(value: Any) -> str:
    """Return the text that the grammar reads as this value."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return value if _PLAIN.fullmatch(value) else QuotedString(text=value, quote=Quote.single).with_quotes()
        case list() | tuple():
            return f"[{','.join(to_text(item) for item in value)}]"
        case dict():
            pairs = ((key if isinstance(key, str) else to_text(key), to_text(item)) for key, item in value.items())
            return "{" + ",".join(f"{key}:{item}" for key, item in pairs) + "}"
    return str(value)
