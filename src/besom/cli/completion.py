"""Tab completion: commands, flags and their values from the commands' parsers; overrides by Hydra's own completion.

The shell calls `besom -sc query=bash` and passes the typed line in COMP_LINE. Hydra's completion assumes an app
without subcommands, so the command, the sweep's name and the flags are removed from the line first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from besom.cli.groups import COMMANDS
from besom.config.paths import conf_dir, find_sweep, sweep_search_path


@dataclass(frozen=True, kw_only=True)
class Typed:
    """The words before the cursor: the complete ones, and the one being typed (or "")."""

    words: list[str]
    word: str

    @classmethod
    def read(cls) -> Typed:
        """Parse the shell's environment variables."""
        line = os.environ.get("COMP_LINE", "")
        line = line[: int(os.environ.get("COMP_POINT") or len(line))]
        words = line.split()[1:]
        word = words.pop() if words and not line[-1].isspace() else ""
        return cls(words=words, word=word)


def answer(arguments: Sequence[str]) -> int:
    """Answer the shell's call: print the script to evaluate, or the suggestions at the cursor."""
    typed = Typed.read()
    querying = any(word.startswith("query=") for word in arguments)
    suggestions = _suggestions(typed) if querying else None
    if suggestions is not None:
        sys.stdout.write(" ".join(word for word in suggestions if word.startswith(typed.word)) + "\n")
        return 0
    from besom.cli.hydra_main import run

    hydra_arguments = ["--shell-completion", *arguments[1:]]
    if not querying:
        run([conf_dir()], "train", hydra_arguments)
        return 0
    # A completion cannot report an error: a line that cannot be composed has no suggestions.
    with contextlib.suppress(Exception, SystemExit):
        folders, name, overrides = _hydra_app(typed)
        os.environ["COMP_LINE"] = " ".join(["besom", *overrides, typed.word])
        run(folders, name, hydra_arguments)
    return 0


def _suggestions(typed: Typed) -> Sequence[str] | None:
    """Return Besom's own suggestions, or None if Hydra is to complete an override."""
    if not typed.words:
        return list(COMMANDS)
    command, *before = typed.words
    if command not in COMMANDS:
        return ()
    parser = COMMANDS[command].parser()
    if typed.word.startswith("-"):
        return _flags(parser)
    action, values = _cursor(parser, before)
    if action is None:
        return ()
    if action.dest == "overrides":
        return None
    suggest = getattr(action, "complete", None)
    return suggest(values, typed.word) if suggest else [str(choice) for choice in action.choices or ()]


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    return [flag for action in shown for flag in action.option_strings if flag.startswith("--")]


def _cursor(
    parser: argparse.ArgumentParser, words: Sequence[str]
) -> tuple[argparse.Action | None, Mapping[str, Sequence[str]]]:
    """Return the argument that the word after these is a value of, if any, and the values so far by destination."""
    flags = {flag: action for action in parser._actions for flag in action.option_strings}
    positional = [action for action in parser._actions if not action.option_strings]
    values: dict[str, list[str]] = {}
    pending: argparse.Action | None = None  # a flag that waits for its value
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            action = flags.get(name)
            pending = action if action is not None and action.nargs != 0 and not equals else None
            if action is not None and equals:
                values.setdefault(action.dest, []).append(value)
        elif pending is not None:
            values.setdefault(pending.dest, []).append(word)
            pending = None
        elif positional:
            values.setdefault(positional[0].dest, []).append(word)
            del positional[: positional[0].nargs is None]
    return pending or next(iter(positional), None), values


def _hydra_app(typed: Typed) -> tuple[list[Path], str, Sequence[str]]:
    """Return the search path, the primary config and the overrides for Hydra's completion."""
    command, *before = typed.words
    _, values = _cursor(COMMANDS[command].parser(), before)
    user, overrides = [Path(folder) for folder in values.get("config_dir", ())], values.get("overrides", ())
    if command == "train":
        return [*user, conf_dir()], "train", overrides
    file = find_sweep(values["sweep"][0], user)
    return sweep_search_path(file, user), file.stem, overrides
