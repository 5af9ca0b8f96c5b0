"""Runs that are not recorded yet."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from besom.config.extras.logged import Log
from besom.config.units import Unit
from besom.system.source_file import SourceFile
from besom.tracking.code import CodeState
from besom.tracking.sources import SourceKeeper
from besom.tracking.tags import INTERRUPTED, Tag


@dataclass(frozen=True, kw_only=True)
class RunCard:
    """The data that a run starts with; `attempt` counts from 0, for a trial that is retried.

    Its metrics are recorded by `axis`. `run_id` is the id to create it with, if one was chosen.
    """

    name: str
    config: Mapping[str, Any]
    tags: Mapping[str, str]
    params: Mapping[str, Any] = field(default_factory=dict)
    directory: Path
    attempt: int = 0
    axis: Unit = Unit.EPOCH
    run_id: str | None = None
    began_s: float = field(default_factory=time.time)


@dataclass(eq=False, kw_only=True)
class PendingRun:
    """A run from its start to its end.

    `reports` holds (number on the run's axis, metrics, time in seconds), and `logs` what its logger has received; `end`
    the arguments of `Recorder.finish`, once the run has ended. `run_id` is set as soon as the store has the run. `code`
    holds the tags of the code that the run was trained with, and `code_files` its files: the state of the repository,
    with the `sources` that the worker reported.
    """

    trial: int
    card: RunCard
    about: Mapping[str, Any]
    sources: Sequence[SourceFile] | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    code_files: Mapping[str, str] = field(default_factory=dict)
    reports: list[tuple[int, Mapping[str, float], float]] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)
    end: Mapping[str, Any] = field(default_factory=dict)
    run_id: str | None = None

    @property
    def is_over(self) -> bool:
        """True if it has ended, other than by an interruption after which it is trained again."""
        return bool(self.end) and (self.end["last"] or self.end["tags"].get(Tag.STATE) != INTERRUPTED)

    @property
    def code_state(self) -> CodeState:
        """The code that it was trained with."""
        return CodeState(tags=self.code, files=self.code_files)

    def find_code(self, keeper: SourceKeeper) -> None:
        """Set `code` and `code_files`, unless an earlier process has kept them."""
        if not self.code:
            state = keeper.state(self.sources)
            self.code, self.code_files = state.tags, state.files


class Backlog:
    """The runs that are not recorded yet, in the order in which they started."""

    def __init__(self) -> None:
        self._running: dict[int, PendingRun] = {}
        self._unrecorded: dict[PendingRun, None] = {}

    def __len__(self) -> int:
        return len(self._unrecorded)

    def begin(self, run: PendingRun) -> None:
        """Add a run."""
        self._running[run.trial] = run
        self._unrecorded[run] = None

    def report(self, trial: int, step: int, metrics: Mapping[str, float], time_s: float) -> None:
        """Add a report to the run of a trial."""
        self._running[trial].reports.append((step, metrics, time_s))

    def log(self, trial: int, log: Log) -> None:
        """Add what the logger of a trial has received to its run."""
        self._running[trial].logs.append(log)

    def end(self, trial: int, end: Mapping[str, Any]) -> PendingRun:
        """End the run of a trial, and return it."""
        run = self._running.pop(trial)
        run.end = end
        return run

    def over(self) -> list[PendingRun]:
        """Return the runs that have ended."""
        return [run for run in list(self._unrecorded) if run.is_over]

    def drop(self, run: PendingRun) -> None:
        """Remove a run that is recorded or kept elsewhere."""
        self._unrecorded.pop(run, None)
