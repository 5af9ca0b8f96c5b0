"""Tab completion: Besom's commands, sweeps and flags; everything else is Hydra's own completion.

The shell calls `besom -sc query=bash` and passes the typed line in COMP_LINE. Hydra's completion assumes an app
without subcommands, so the command, the sweep's name and the flags are removed from the line first.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from besom.config.paths import conf_dir, find_sweep, sweep_names, sweep_search_path
from besom.tracking.tags import STUDY, Tag

COMMANDS = ("train", "sweep", "studies", "report", "best", "reproduce", "predict", "register", "ui")

_RUNS_MAX = 50
"""The number of runs that are suggested; nobody chooses from more."""

_HYDRA_FLAGS = ("--help", "--hydra-help", "--cfg", "--resolve", "--package", "--multirun", "--info", "--config-dir")
_FLAGS = {
    "train": _HYDRA_FLAGS,
    "sweep": (*_HYDRA_FLAGS, "--dry-run", "--quiet", "--enqueue-from"),
    "studies": ("--help", "--json", "--directory", "--storage"),
    "report": ("--help", "--output", "--open", "--json", "--directory", "--storage"),
    "best": ("--help", "--trial", "--save", "--sweep", "--config-dir", "--directory", "--storage"),
    "reproduce": ("--help", "--here", "--exact", "--tolerance", "--pip-args", "--trust"),
    "predict": ("--help", "--output", "--probabilities", "--batch-size", "--separator", "--invert", "--trust"),
    "register": ("--help", "--alias", "--trust"),
    "ui": ("--help", "--host", "--port"),
}
_FLAG_VALUES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--config-dir": (),  # the shell completes folders
    "--package": (),
    "--directory": (),
    "--storage": (),
    "--trial": (),
    "--save": (),
    "--tolerance": (),
    "--pip-args": (),
    "--output": (),
    "-o": (),
}


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
    """Return Besom's own suggestions, or None if Hydra is to complete."""
    if not typed.words:
        return COMMANDS
    command, *before = typed.words
    if command not in COMMANDS:
        return ()
    if before and before[-1] in _FLAG_VALUES and not typed.word.startswith("-"):
        return _FLAG_VALUES[before[-1]]
    if before and before[-1] == "--enqueue-from":
        return _study_names(_directory(before))
    if before and before[-1] == "--sweep":
        return sweep_names([])
    if typed.word.startswith("-"):
        return _FLAGS[command]
    user, positional = _split(before)
    if command in ("best", "report") and not positional:
        return _study_names(_directory(before))
    if command == "reproduce" and not positional:
        return run_ids(_directory(before), typed.word)
    if command not in ("train", "sweep"):
        return ()
    return sweep_names(user) if command == "sweep" and not positional else None


def _study_names(directory: Path) -> list[str]:
    """Return the names of the studies in a folder; none if its database is locked or unreadable."""
    return sorted(_query(directory / "optuna.db", "SELECT study_name FROM studies"))


def run_ids(directory: Path, begun: str) -> list[str]:
    """Return the latest runs in a folder whose ids begin with `begun`, without parent runs; none if unreadable."""
    studies = f"SELECT run_uuid FROM tags WHERE key = '{Tag.KIND}' AND value = '{STUDY}'"
    return _query(
        directory / "mlflow.db",
        "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active' AND substr(run_uuid, 1, ?) = ? "
        f"AND run_uuid NOT IN ({studies}) ORDER BY start_time DESC LIMIT {_RUNS_MAX}",
        (len(begun), begun),
    )


def _query(database: Path, query: str, values: Sequence[object] = ()) -> list[str]:
    """Return the first column of a query's result, by SQLite without MLflow's imports: the shell waits for it."""
    if not database.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            return [first for first, *_ in connection.execute(query, values)]
    except sqlite3.Error:
        return []


def _directory(words: Sequence[str]) -> Path:
    return Path(next((word for flag, word in pairwise(words) if flag == "--directory"), "mlruns"))


def _hydra_app(typed: Typed) -> tuple[list[Path], str, list[str]]:
    """Return the search path, the primary config and the overrides for Hydra's completion."""
    user, positional = _split(typed.words[1:])
    if typed.words[0] == "train":
        return [*user, conf_dir()], "train", positional
    file = find_sweep(positional[0], user)
    return sweep_search_path(file, user), file.stem, positional[1:]


def _split(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the values of `--config-dir`, and the positional words."""
    user: list[Path] = []
    positional: list[str] = []
    previous = ""
    for word in words:
        if previous == "--config-dir":
            user.append(Path(word))
        elif previous not in (*_FLAG_VALUES, "--enqueue-from", "--sweep") and not word.startswith("-"):
            positional.append(word)
        previous = word
    return user, positional
