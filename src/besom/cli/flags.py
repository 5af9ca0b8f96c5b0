"""The flags of `besom train` and `besom sweep`: Hydra's, and the sweep's own, which set keys of the sweeper."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from besom.cli.command import complete
from besom.cli.suggestions import studies
from besom.errors import ConfigError

_SEE = "see besom sweep --help"


def hydra_parser() -> argparse.ArgumentParser:
    """Return a parser of Hydra's command line; Hydra's own parser is private."""
    parser = argparse.ArgumentParser(add_help=False)
    add_hydra_flags(parser)
    parser.add_argument("overrides", nargs="*")
    return parser


def add_hydra_flags(parser: argparse.ArgumentParser) -> None:
    """Add Hydra's documented flags. Tab completion leaves out those whose help is suppressed."""
    hydra = version("hydra-core")
    info = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
    info += [] if hydra.startswith("1.3.") else ["aliases"]
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--package", "-p")
    parser.add_argument("--run", "-r", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=info)
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--config-path", "-cp", help=argparse.SUPPRESS)
    parser.add_argument("--config-name", "-cn", help=argparse.SUPPRESS)
    parser.add_argument("--experimental-rerun", help=argparse.SUPPRESS)
    parser.add_argument("--shell-completion", "-sc", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"Hydra {hydra}", help=argparse.SUPPRESS)


def add_sweep_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that only `besom sweep` has."""
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--quiet", "-q", action="store_true")
    complete(parser.add_argument("--enqueue-from", action="append", default=[]), studies)


@dataclass(frozen=True, kw_only=True)
class Words:
    """A command line as Hydra parses it: its overrides, and its flags with their values."""

    overrides: list[str]
    flags: list[str]
    options: argparse.Namespace

    @classmethod
    def read(cls, arguments: Sequence[str]) -> Words:
        """Separate overrides and flags, in any order.

        Raises ConfigError for a flag that Hydra does not have, or that conflicts with another one.
        """
        parser = hydra_parser()
        parser.error = _refuse  # type: ignore[method-assign]
        # Overrides first: `--info` would take the next one as its value.
        overrides = [word for word in arguments if "=" in word and not word.startswith("-")]
        options = parser.parse_intermixed_args([*overrides, *(word for word in arguments if word not in overrides)])
        flags = list(arguments)
        for word in options.overrides:
            flags.remove(word)
        words = cls(overrides=options.overrides, flags=flags, options=options)
        if words.only_shows + options.run + options.multirun > 1:
            _refuse("--run, --multirun, --cfg and --info exclude each other")
        if options.resolve and not (options.cfg or options.help):
            _refuse("--resolve goes with --cfg")
        if options.config_dir and not Path(options.config_dir).is_dir():
            raise ConfigError(f"--config-dir: {options.config_dir} is not a folder; name one that holds your configs")
        return words

    @property
    def folders(self) -> list[Path]:
        """The folder of the user's own configs. Hydra searches `--config-dir` last; here it comes first."""
        return [Path(self.options.config_dir)] if self.options.config_dir else []

    @property
    def only_shows(self) -> int:
        """The number of flags that only print something, so that nothing is trained."""
        options = self.options
        flags = (options.help, options.hydra_help, options.cfg, options.info, options.shell_completion)
        return sum(map(bool, flags))


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; see besom train --hydra-help")


@dataclass(frozen=True, kw_only=True)
class SweepFlags:
    """The flags of `add_sweep_flags`."""

    dry_run: bool
    quiet: bool
    enqueue_from: str | None

    @classmethod
    def read(cls, arguments: Sequence[str]) -> tuple[SweepFlags, list[str]]:
        """Extract the flags from a command line; return them, and the remaining arguments for Hydra.

        Raises ConfigError for flags that exclude each other.
        """
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.error = _refuse_sweep  # type: ignore[method-assign]
        add_sweep_flags(parser)
        options, rest = parser.parse_known_args(arguments)
        named = options.enqueue_from
        if any(not name or name.startswith("-") for name in named):
            _refuse_sweep("argument --enqueue-from: expected a name")
        if options.dry_run and options.quiet:
            raise ConfigError(f"--dry-run shows what would be done, --quiet shows nothing; leave one out; {_SEE}")
        if len(named) > 1:
            raise ConfigError(f"--enqueue-from: it takes one study, and {' and '.join(named)} were named; {_SEE}")
        return cls(dry_run=options.dry_run, quiet=options.quiet, enqueue_from=next(iter(named), None)), rest

    def check(self, words: Words) -> None:
        """Check the flags against the rest of the command line.

        Raises ConfigError for a flag that has no effect there, or that an override contradicts.
        """
        by_key = {override.partition("=")[0]: override for override in words.overrides}
        for flag, key, _ in self._set():
            if words.only_shows and not words.options.help:
                raise ConfigError(f"{flag}: nothing is swept with --cfg, --info and the like; leave one of them out")
            if key in by_key:
                raise ConfigError(f"{flag}: {by_key[key]} says it as well; leave one of them out")
            sweeper = by_key.get("hydra/sweeper", "hydra/sweeper=besom")
            if sweeper != "hydra/sweeper=besom":
                raise ConfigError(f"{flag}: {sweeper} does not know it; leave one of them out")

    @property
    def overrides(self) -> list[str]:
        """The overrides of the sweeper's keys."""
        from besom.sweep.space.overrides import to_override  # which imports Hydra

        return [to_override(key, value) for _, key, value in self._set()]

    def _set(self) -> Iterator[tuple[str, str, bool | str]]:
        if self.dry_run:
            yield "--dry-run", "hydra.sweeper.dry_run", True
        if self.quiet:
            yield "--quiet", "hydra.sweeper.quiet", True
        if self.enqueue_from is not None:
            yield "--enqueue-from", "hydra.sweeper.enqueue_from", self.enqueue_from


def _refuse_sweep(message: str) -> NoReturn:
    if "--enqueue-from" in message:
        message = "--enqueue-from: name the study whose best is tried first; besom studies lists them"
    raise ConfigError(f"{message}; {_SEE}")
