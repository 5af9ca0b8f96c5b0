"""How a Hydra app is started: its script or module, and the flags that choose its primary config."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FLAGS = (("--config-path", "-cp"), ("--config-name", "-cn"), ("--config-dir", "-cd"))
_MODULE = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


@dataclass(frozen=True)
class AppCommand:
    """The words after `python` that start an app: `train.py` or `-m pkg.train`, and flags such as `--config-name=x`."""

    words: tuple[str, ...]

    @classmethod
    def of_this_process(cls) -> AppCommand | None:
        """Return the command of the app that runs as this process's main script; None in a notebook and the like."""
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        if spec is not None:
            return cls(("-m", spec.name.removesuffix(".__main__"), *_flags(sys.argv[1:])))
        if file is None:
            return None
        path = Path(file).absolute()
        here = Path.cwd()
        script = path.relative_to(here) if path.is_relative_to(here) else path
        return cls((str(script), *_flags(sys.argv[1:])))

    @classmethod
    def read(cls, words: Any) -> AppCommand | None:
        """Return a recorded command, if it is one."""
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            return None
        start, flags = (words[:2], words[2:]) if words[0] == "-m" else (words[:1], words[1:])
        if words[0] == "-m" and (len(start) < 2 or not _MODULE.fullmatch(start[1])):
            return None
        if (words[0] != "-m" and words[0].startswith("-")) or not all(_is_flag(flag) for flag in flags):
            return None
        return cls(tuple(words))

    @classmethod
    def of_tag(cls, text: str | None) -> AppCommand | None:
        """Return the command that a run's tag has as JSON, if it is one."""
        try:
            return cls.read(json.loads(text or "null"))
        except ValueError:
            return None

    @property
    def module(self) -> str | None:
        """The module of an app that is started by `python -m`."""
        return self.words[1] if self.words[0] == "-m" else None

    @property
    def script(self) -> Path | None:
        """The script of any other app, relative to the working directory if it is inside of that."""
        return None if self.module else Path(self.words[0])

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags that choose its primary config."""
        return self.words[2:] if self.module else self.words[1:]

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of configs that its flags name."""
        flags = (word.partition("=") for word in self.flags)
        return tuple(Path(folder) for name, _, folder in flags if name != "--config-name")

    @property
    def trusted_as(self) -> str:
        """The name by which a user trusts the app: its top-level package, or its script, such as `train.py`."""
        if self.module:
            return self.module.partition(".")[0]
        stem = re.sub(r"\W", "_", Path(self.words[0]).stem, flags=re.ASCII)
        return f"{stem if stem[:1].isalpha() else f'_{stem}'}.py"

    def __str__(self) -> str:
        """Return the command line."""
        return shlex.join(["python", *self.words])


def is_other_app(described: Mapping[str, Any]) -> bool:
    """Return whether a study, by its description, is of another Hydra app than Besom's own."""
    return described.get("app") == "hydra"


def _flags(arguments: Sequence[str]) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag, short in _FLAGS:
        parser.add_argument(flag, short)
    try:
        found, _ = parser.parse_known_args(arguments)
    except (argparse.ArgumentError, SystemExit):
        return []
    return [f"--{name.replace('_', '-')}={value}" for name, value in vars(found).items() if value is not None]


def _is_flag(word: str) -> bool:
    return word.partition("=")[0] in (flag for flag, _ in _FLAGS) and "=" in word
