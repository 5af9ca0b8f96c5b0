"""Runs kept as files for the next start, because the tracking server was unreachable until the sweep ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from besom.config.extras.logged import Log, Point
from besom.config.units import Unit
from besom.errors import StoreError
from besom.secrets.masks import without_secrets
from besom.tracking.recorder.pending_runs import Backlog, PendingRun, RunCard
from besom.tracking.sources import SourceKeeper

_RUN, _FILES = "run.json", "files"


@dataclass(frozen=True, kw_only=True)
class KeptRuns:
    """The result of waiting for the store: trials whose last run is kept as files instead, and the server's error."""

    trials: Sequence[int] = ()
    error: StoreError | None = None


class Outbox:
    """A folder of runs that have ended and are not recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, backlog: Backlog, keeper: SourceKeeper) -> list[int]:
        """Keep the ended runs of a backlog; return the trials for which that was the last run."""
        trials = []
        for run in backlog.over():
            run.find_code(keeper)
            self.keep(run)
            backlog.drop(run)
            if run.end["last"]:
                trials.append(run.trial)
        return trials

    def keep(self, run: PendingRun) -> None:
        """Write a run as JSON, and move its folder beside it."""
        place = self._place(run)
        unfinished = place.with_name(f".{place.name}")
        for old in (place, unfinished):
            shutil.rmtree(old, ignore_errors=True)
        unfinished.mkdir(parents=True)
        card = {**asdict(replace(run.card, directory=Path())), "directory": ""}
        plain = {
            "trial": run.trial, "card": card, "about": run.about, "code": run.code,
            "code_files": run.code_files, "reports": run.reports,
            "logs": [asdict(log) for log in run.logs], "end": run.end, "run_id": run.run_id,
        }  # fmt: skip
        text = json.dumps(_masked(plain), default=str)
        (unfinished / _RUN).write_text(text, encoding="utf-8")
        if run.card.directory.is_dir():
            shutil.move(run.card.directory, unfinished / _FILES)
        unfinished.rename(place)

    def waiting(self) -> list[PendingRun]:
        """Return the runs kept here, in the order of their trials; the folder of each is in here too."""
        runs = [_read(file.parent) for file in self.folder.glob(f"[!.]*/{_RUN}")]
        return sorted(runs, key=lambda run: (run.trial, run.card.attempt))

    def drop(self, run: PendingRun) -> None:
        """Remove a run that is now recorded."""
        shutil.rmtree(self._place(run), ignore_errors=True)
        for folder in (self.folder, self.folder.parent):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _place(self, run: PendingRun) -> Path:
        # The start time tells apart runs outside of a study, which have no trial number.
        return self.folder / f"{run.trial}-{run.card.attempt}-{run.card.began_s:.3f}"


def _read(place: Path) -> PendingRun:
    plain = json.loads((place / _RUN).read_text(encoding="utf-8"))
    files = place / _FILES
    files.mkdir(exist_ok=True)
    reports = [(step, metrics, time_s) for step, metrics, time_s in plain["reports"]]
    logs = [_log(log) for log in plain.get("logs", ())]  # older files lack it, and the next
    axis = Unit(plain["card"].get("axis", Unit.EPOCH))
    card = RunCard(**{**plain["card"], "directory": files, "axis": axis})
    return PendingRun(**{**plain, "card": card, "reports": reports, "logs": logs})


def _log(plain: Mapping[str, Any]) -> Log:
    return Log(**{**plain, "points": tuple(Point(**point) for point in plain["points"])})


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _masked(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_masked(item) for item in value]
    return without_secrets(value) if isinstance(value, str) else value
