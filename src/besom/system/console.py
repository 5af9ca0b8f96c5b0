"""The terminal, as everything of ours writes to it."""

from __future__ import annotations

from rich.console import Console


def plain_console() -> Console:
    """Return a console that takes no text for rich's markup or an emoji's name: names and values may hold any signs."""
    return Console(markup=False, emoji=False, highlight=False)


def warn(console: Console, text: str) -> None:
    """Print a warning, whatever signs it holds."""
    console.print(f"warning: {text}", style="yellow", highlight=False, markup=False, soft_wrap=True)
