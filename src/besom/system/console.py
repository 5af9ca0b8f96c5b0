"""The terminal, in the form that all of Besom's output uses."""

from __future__ import annotations

from rich.console import Console


def plain_console() -> Console:
    """Return a console without rich's markup and emoji names: names and values may contain any characters."""
    return Console(markup=False, emoji=False, highlight=False)


def warn(console: Console, text: str) -> None:
    """Print a warning, which may contain any characters."""
    console.print(f"warning: {text}", style="yellow", highlight=False, markup=False, soft_wrap=True)
