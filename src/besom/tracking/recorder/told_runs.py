"""What a recorder is told of runs, until they are recorded."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from besom.system.source_file import SourceFile
from besom.tracking.code import CodeState
from besom.tracking.sources import SourceKeeper


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
class ToldRun:
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
        return bool(self.end) and (self.end["last"] or self.end["tags"].get("besom.state") != "INTERRUPTED")

    @property
    def code_state(self) -> CodeState:
        """The code that it was trained by."""
        return CodeState(tags=self.code, files=self.code_files)

    def find_code(self, keeper: SourceKeeper) -> None:
        """Set `code` and `code_files`, unless an earlier process wrote them down."""
        if not self.code:
            state = keeper.state(self.sources)
            self.code, self.code_files = state.tags, state.files


class Backlog:
    """The runs that are not recorded yet, in the order in which they began."""

    def __init__(self) -> None:
        self._running: dict[int, ToldRun] = {}
        self._unrecorded: dict[ToldRun, None] = {}

    def __len__(self) -> int:
        return len(self._unrecorded)

    def begin(self, run: ToldRun) -> None:
        """Add a run."""
        self._running[run.trial] = run
        self._unrecorded[run] = None

    def report(self, trial: int, epoch: int, metrics: Mapping[str, float], time_s: float) -> None:
        """Add a report to the run of a trial."""
        self._running[trial].reports.append((epoch, metrics, time_s))

    def end(self, trial: int, end: Mapping[str, Any]) -> ToldRun:
        """Let the run of a trial be over, and return it."""
        run = self._running.pop(trial)
        run.end = end
        return run

    def over(self) -> list[ToldRun]:
        """Return those that are over."""
        return [run for run in list(self._unrecorded) if run.is_over]

    def drop(self, run: ToldRun) -> None:
        """Forget a run: it is recorded, or kept elsewhere."""
        self._unrecorded.pop(run, None)
