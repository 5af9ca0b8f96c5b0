"""A source file as a worker imported it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file of a user's own that a worker imported: its `name` from Python's path on, its SHA-256 when it was.

    `content` is told of a source file that is not too large, once.
    """

    name: str
    path: str
    digest: str
    content: bytes | None = None

    def without_content(self) -> SourceFile:
        """The same, after its content was told."""
        return replace(self, content=None)
