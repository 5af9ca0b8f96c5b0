"""A source file as a worker imported it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A user's file that a worker imported: its `name` relative to sys.path, and its SHA-256 at that time.

    `content` is included once for a source file that is not too large.
    """

    name: str
    path: str
    digest: str
    content: bytes | None = None

    def without_content(self) -> SourceFile:
        """Return the record without the content, which was already sent."""
        return replace(self, content=None)
