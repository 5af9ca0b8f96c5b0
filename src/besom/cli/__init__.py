"""The command line: `besom train | sweep | studies | report | best | reproduce | predict | register | ui`."""

from __future__ import annotations

from besom.cli.dispatch import main

__all__ = ["main"]
