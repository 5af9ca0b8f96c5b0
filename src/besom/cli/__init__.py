"""The command line, `besom`."""

from __future__ import annotations

from besom.cli.dispatch import main

__all__ = ["main"]
