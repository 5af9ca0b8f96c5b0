"""Values in Hydra's override grammar: what `besom train` would need on its command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

# What the grammar reads as text without quotes: not null, true, false, inf or nan.
_PLAIN = re.compile(r"(?!(null|true|false|inf|nan)\Z)[a-z_][a-z0-9_]*", re.ASCII | re.IGNORECASE)


def to_overrides(params: Mapping[str, Any]) -> list[str]:
    """Return Hydra overrides that set these values."""
    return [f"{key}={to_text(value)}" for key, value in params.items()]


def to_text(value: Any) -> str:
    """Return text that the grammar reads as this value."""
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
