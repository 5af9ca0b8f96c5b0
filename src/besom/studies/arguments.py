"""The arguments that start one job of another Hydra app, as words that every shell takes as they stand.

They are pasted, or inserted by `python app.py $(besom best STUDY)`, where a shell splits them at blanks but removes no
quotes. So a value that needs quotes goes into a config file, and the words name that file instead.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from besom.errors import ConfigError
from besom.sweep.space.grammar import plain

_DIRECTORY, _NAME = "--config-dir=", "--config-name="
_PLAIN_WORD = re.compile(r"~?[\w@%+=:,./-]+")
_OF_THE_SWEEP = re.compile(r"[+~]*hydra([./](sweeper|launcher|mode|sweep)\b.*)")
_ONE_RUN = "hydra.mode=RUN"  # also where the app's config, or an experiment, says MULTIRUN


@dataclass(frozen=True)
class Arguments:
    """The arguments of one job; `text` is the content of the config `file` that they name, if they need one."""

    words: tuple[str, ...]
    file: Path | None = None
    text: str = ""

    def __str__(self) -> str:
        """Return the words on one line."""
        return " ".join(word if _PLAIN_WORD.fullmatch(word) else shlex.quote(word) for word in self.words)

    def write(self) -> None:
        """Write the config file, if there is one. Raises ConfigError if it cannot be written."""
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(self.text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{self.file}: cannot be written ({error.strerror}); make its folder writable") from error


def job_arguments(
    overrides: Sequence[str],
    *,
    folder: Path,
    name: str,
    config_name: str | None,
    flags: Sequence[str] = (),
    groups: Collection[str] = (),
) -> Arguments:
    """Return the arguments that start one job with these overrides, without the sweep.

    `config_name` is the app's primary config, which `flags` may choose; `groups` are the keys that choose from config
    groups. A file, if one is needed, is called `name` in `folder`: a primary config on top of the app's own.
    """
    parser = OverridesParser.create()
    parsed = [one for one in parser.parse_overrides(list(overrides)) if not _OF_THE_SWEEP.fullmatch(_key(one))]
    in_file = _needing_quotes(parsed, groups)
    if not in_file or any(flag.startswith(_DIRECTORY) for flag in flags):  # Hydra takes one such flag
        return Arguments((*flags, *(str(one.input_line) for one in parsed), _ONE_RUN))
    tree = OmegaConf.create({})
    defaults: list[Any] = [config_name] if config_name else []
    for one in in_file:
        key, value = _path(one), plain(one.value())
        if key in groups:
            defaults.append({f"{'' if one.is_add() else 'override '}/{key}": value})
        else:
            OmegaConf.update(tree, key, value, merge=True, force_add=True)
    text = OmegaConf.to_yaml(OmegaConf.create({"defaults": [*defaults, "_self_"]}))
    chosen = (*(flag for flag in flags if not flag.startswith(_NAME)), f"{_DIRECTORY}{folder}", f"{_NAME}{name}")
    words = (str(one.input_line) for one in parsed if one not in in_file)
    return Arguments((*chosen, *words, _ONE_RUN), folder / f"{name}.yaml", text + OmegaConf.to_yaml(tree) * bool(tree))


def _needing_quotes(overrides: Sequence[Override], groups: Collection[str]) -> list[Override]:
    """Return the overrides that a shell would take apart, and those of keys above or below, whose order matters."""
    found = [one for one in overrides if not _PLAIN_WORD.fullmatch(str(one.input_line)) and not one.is_delete()]
    paths = [_path(one) for one in found if _path(one) not in groups]
    return [
        one
        for one in overrides
        if one in found or (not one.is_delete() and any(_overlap(_path(one), path) for path in paths))
    ]


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _key(override: Override) -> str:
    return str(override.get_key_element())


def _path(override: Override) -> str:
    return _key(override).lstrip("+~")
