"""The flags of `besom sweep` that Hydra does not have: read, and turned into overrides of the sweeper's keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from besom.errors import ConfigError
from besom.sweep.space.overrides import to_override

if TYPE_CHECKING:
    from besom.cli.hydra_main import Words

_SEE = "see besom sweep --help"


@dataclass(frozen=True, kw_only=True)
class SweepFlags:
    """`--dry-run`, `--quiet` and `--enqueue-from STUDY`."""

    dry_run: bool = False
    quiet: bool = False
    enqueue_from: str | None = None

    @classmethod
    def read(cls, arguments: Sequence[str]) -> tuple[SweepFlags, list[str]]:
        """Extract the flags from a command line; return them, and the remaining arguments for Hydra.

        Raises ConfigError for flags that exclude each other.
        """
        rest: list[str] = []
        dry_run = quiet = False
        sources: list[str] = []
        words = iter(arguments)
        for word in words:
            if word == "--dry-run":
                dry_run = True
            elif word in ("--quiet", "-q"):
                quiet = True
            elif word == "--enqueue-from" or word.startswith("--enqueue-from="):
                sources.append(_study(word, words))
            else:
                rest.append(word)
        if dry_run and quiet:
            raise ConfigError(f"--dry-run shows what would be done, --quiet shows nothing; leave one out; {_SEE}")
        if len(sources) > 1:
            raise ConfigError(f"--enqueue-from: it takes one study, and {' and '.join(sources)} were named; {_SEE}")
        return cls(dry_run=dry_run, quiet=quiet, enqueue_from=next(iter(sources), None)), rest

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
        return [to_override(key, value) for _, key, value in self._set()]

    def _set(self) -> Iterator[tuple[str, str, bool | str]]:
        if self.dry_run:
            yield "--dry-run", "hydra.sweeper.dry_run", True
        if self.quiet:
            yield "--quiet", "hydra.sweeper.quiet", True
        if self.enqueue_from is not None:
            yield "--enqueue-from", "hydra.sweeper.enqueue_from", self.enqueue_from


def _study(word: str, words: Iterator[str]) -> str:
    name = word.partition("=")[2] if "=" in word else next(words, "")
    if not name or name.startswith("-"):
        raise ConfigError(f"--enqueue-from: name the study whose best is tried first; besom studies lists them; {_SEE}")
    return name
