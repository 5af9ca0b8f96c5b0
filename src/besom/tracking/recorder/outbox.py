"""Runs that a tracking server has missed which was away until the sweep was over: kept as files for the next start."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from besom.errors import StoreError
from besom.secrets.masks import without_secrets
from besom.tracking.recorder.told_runs import Backlog, RunCard, ToldRun
from besom.tracking.sources import SourceKeeper

_RUN, _FILES = "run.json", "files"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is not recorded, and kept as files: the trials that are over by it, and why."""

    trials: Sequence[int] = ()
    error: StoreError | None = None


class Outbox:
    """A folder of runs that are over and not recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, backlog: Backlog, keeper: SourceKeeper) -> list[int]:
        """Keep what is over of a backlog; return the trials that are over by it."""
        trials = []
        for run in backlog.over():
            run.find_code(keeper)
            self.keep(run)
            backlog.drop(run)
            if run.end["last"]:
                trials.append(run.trial)
        return trials

    def keep(self, run: ToldRun) -> None:
        """Write a run down, and move there what it left in its folder."""
        place = self._place(run)
        being_made = place.with_name(f".{place.name}")
        for old in (place, being_made):
            shutil.rmtree(old, ignore_errors=True)
        being_made.mkdir(parents=True)
        card = {**asdict(replace(run.card, directory=Path())), "directory": ""}
        plain = {
            "trial": run.trial, "card": card, "about": run.about, "code": run.code,
            "code_files": run.code_files, "reports": run.reports,
            "end": run.end, "run_id": run.run_id,
        }  # fmt: skip
        text = json.dumps(_masked(plain), default=str)
        (being_made / _RUN).write_text(text, encoding="utf-8")
        if run.card.directory.is_dir():
            shutil.move(run.card.directory, being_made / _FILES)
        being_made.rename(place)

    def waiting(self) -> list[ToldRun]:
        """Return the runs that lie here, in the order of their trials; each has its folder here."""
        found = [_read(file.parent) for file in self.folder.glob(f"[!.]*/{_RUN}")]
        return sorted(found, key=lambda run: (run.trial, run.card.attempt))

    def drop(self, run: ToldRun) -> None:
        """Remove a run, which is recorded now."""
        shutil.rmtree(self._place(run), ignore_errors=True)
        for folder in (self.folder, self.folder.parent):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _place(self, run: ToldRun) -> Path:
        # With when it began: runs outside of a study have no other number.
        return self.folder / f"{run.trial}-{run.card.attempt}-{run.card.began_s:.3f}"


def _read(place: Path) -> ToldRun:
    plain = json.loads((place / _RUN).read_text(encoding="utf-8"))
    files = place / _FILES
    files.mkdir(exist_ok=True)
    reports = [(epoch, metrics, time_s) for epoch, metrics, time_s in plain["reports"]]
    return ToldRun(**{**plain, "card": RunCard(**{**plain["card"], "directory": files}), "reports": reports})


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _masked(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_masked(item) for item in value]
    return without_secrets(value) if isinstance(value, str) else value
