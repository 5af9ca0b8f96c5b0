"""The no-op recorder of `tracking=none`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from besom.system.source_file import SourceFile
from besom.tracking.recorder.outbox import KeptRuns
from besom.tracking.recorder.patience import StopRequest
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.store import Location
from besom.tracking.study_run import RecordedEnd, Status


class NoOpRecorder(Recorder):
    """A Recorder without a store: run ids are empty, and nothing is recorded."""

    def __init__(self) -> None:
        super().__init__(Location(uri="", directory=Path()), experiment="")
        self._folders: dict[int, Path] = {}

    def __enter__(self) -> NoOpRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def open_study(
        self, name: str, *, token: str, tags: Mapping[str, str], note: str, former: Sequence[str] = ()
    ) -> str:
        """Return an empty id."""
        return ""

    def parent_run_id(self) -> str:
        """Return an empty id."""
        return ""

    def keep_code(self) -> None:
        """Do nothing."""

    def close_study(self, status: Status, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Do nothing."""

    @property
    def persists(self) -> bool:
        """False: nothing can be read back."""
        return False

    def view(self, key: str, state: Mapping[str, Any], *smaller: Mapping[str, Any]) -> None:
        """Do nothing."""

    def start(
        self, trial: int, card: RunCard, about: Mapping[str, Any], sources: Sequence[SourceFile] | None = None
    ) -> None:
        """Remember the trial's folder, which `finish` removes."""
        self._folders[trial] = card.directory

    def report(self, trial: int, epoch: int, metrics: Mapping[str, float], time_s: float) -> None:
        """Do nothing."""

    def finish(
        self,
        trial: int,
        status: Status,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        traceback: str | None = None,
        last: bool = True,
        ended_s: float | None = None,
    ) -> None:
        """Remove the trial's folder."""
        shutil.rmtree(self._folders.pop(trial), ignore_errors=True)
        if last:
            self._ended.put(trial)

    def ends(self, trials: Sequence[int]) -> dict[int, RecordedEnd]:
        """Return nothing."""
        return {}

    def finalists(self) -> list[RecordedEnd]:
        """Return nothing."""
        return []

    def run_id(self, trial: int) -> str:
        """Return an empty id."""
        return ""

    def run_ids(self) -> dict[int, str]:
        """Return no ids."""
        return {}

    def flush(self) -> None:
        """Do nothing."""

    def wait(self, stop: StopRequest, notice: Callable[[str], None]) -> KeptRuns:
        """Wait for nothing, and keep nothing."""
        self.flush()
        return KeptRuns()

    def record_kept(self) -> list[int]:
        """Return nothing."""
        return []
