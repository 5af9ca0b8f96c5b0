"""A command of `besom`: its parser, and the group that it is listed in."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from besom.errors import ConfigError

Suggest = Callable[[Mapping[str, Sequence[str]], str], Sequence[str]]
"""Returns suggestions for a word that begins with the second argument; the first has the other words by destination."""


@dataclass(frozen=True)
class Command:
    """A command: `run` takes its arguments and returns the exit code; tab completion reads the parser."""

    name: str
    summary: str
    example: str
    parser: Callable[[], argparse.ArgumentParser]
    run: Callable[[list[str]], int]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Commands that are listed together."""

    title: str
    commands: tuple[Command, ...]


class Parser(argparse.ArgumentParser):
    """The parser of a command. It raises ConfigError instead of printing its usage."""

    def __init__(self, command: str, description: str, examples: str) -> None:
        super().__init__(
            prog=f"besom {command}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            description=description,
            epilog=f"examples:\n{examples}",
        )

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with argparse's message."""
        raise ConfigError(f"{self.prog.removeprefix('besom ')}: {message}; see {self.prog} --help")


def complete(action: argparse.Action, suggest: Suggest) -> None:
    """Let tab completion suggest the values of an argument. Choices need none, and files are suggested by the shell."""
    action.complete = suggest  # type: ignore[attr-defined]


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add `--trust` to a command that rebuilds recorded models."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="build what lies in this package of yours, as well as what is shipped: a recorded config is code; may be "
        "given several times",
    )
