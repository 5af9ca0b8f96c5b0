"""What a recorder is told of a run; kept as files where the tracking server was away until the sweep was over."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from besom.conversation import SourceFile
from besom.secrets import without_secrets

_RUN, _FILES = "run.json", "files"


@dataclass(frozen=True, kw_only=True)
class RunCard:
    """What is known of a run before it starts; `attempt` counts from 0, for a trial that is tried again."""

    name: str
    config: Mapping[str, Any]
    tags: Mapping[str, str]
    params: Mapping[str, Any] = field(default_factory=dict)
    directory: Path
    attempt: int = 0
    began_s: float = field(default_factory=time.time)


@dataclass(eq=False, kw_only=True)
class Told:
    """A run from its start to its end: `reports` are an epoch, its metrics and when; `end` is how it ended, if it has.

    `run_id` is the store's, as soon as it has the run. `code` are the tags of the code that the run was trained by, and
    `code_files` its files; they follow from what was found of it, and the `sources` that its worker told.
    """

    trial: int
    card: RunCard
    about: Mapping[str, Any]
    sources: Sequence[SourceFile] | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    code_files: Mapping[str, str] = field(default_factory=dict)
    reports: list[tuple[int, Mapping[str, float], float]] = field(default_factory=list)
    end: Mapping[str, Any] = field(default_factory=dict)
    run_id: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, and not by being put back to be trained again."""
        return bool(self.end) and self.end["tags"].get("besom.state") != "INTERRUPTED"


class Outbox:
    """A folder of runs that are over and not recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, told: Told) -> None:
        """Write a run down, and move there what it left in its folder."""
        place = self._place(told)
        being_made = place.with_name(f".{place.name}")
        for old in (place, being_made):
            shutil.rmtree(old, ignore_errors=True)
        being_made.mkdir(parents=True)
        card = {**asdict(replace(told.card, directory=Path())), "directory": ""}
        plain = {
            "trial": told.trial, "card": card, "about": told.about, "code": told.code,
            "code_files": told.code_files, "reports": told.reports,
            "end": told.end, "run_id": told.run_id,
        }  # fmt: skip
        text = json.dumps(_masked(plain), default=str)
        (being_made / _RUN).write_text(text, encoding="utf-8")
        if told.card.directory.is_dir():
            shutil.move(told.card.directory, being_made / _FILES)
        being_made.rename(place)

    def waiting(self) -> list[Told]:
        """Return the runs that lie here, in the order of their trials; each has its folder here."""
        found = [_read(file.parent) for file in self.folder.glob(f"[!.]*/{_RUN}")]
        return sorted(found, key=lambda told: (told.trial, told.card.attempt))

    def drop(self, told: Told) -> None:
        """Remove a run, which is recorded now."""
        shutil.rmtree(self._place(told), ignore_errors=True)
        for folder in (self.folder, self.folder.parent):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _place(self, told: Told) -> Path:
        return self.folder / f"{told.trial}-{told.card.attempt}"


def _read(place: Path) -> Told:
    plain = json.loads((place / _RUN).read_text(encoding="utf-8"))
    files = place / _FILES
    files.mkdir(exist_ok=True)
    reports = [(epoch, metrics, time_s) for epoch, metrics, time_s in plain["reports"]]
    return Told(**{**plain, "card": RunCard(**{**plain["card"], "directory": files}), "reports": reports})


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _masked(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_masked(item) for item in value]
    return without_secrets(value) if isinstance(value, str) else value
