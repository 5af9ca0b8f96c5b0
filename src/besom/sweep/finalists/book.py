"""The runs of finalists as trials of the sweep's loop; each is written to the sweep's study when it is over."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from besom.config.objectives import Objective
from besom.reports.read.finalists import FinalistRun
from besom.sweep.finalists.choose import Entry
from besom.sweep.study.book import Book
from besom.sweep.study.study import StudyBook
from besom.sweep.trials.trial import best_metrics
from besom.tracking.recorder.recorder import Recorder
from besom.workers.messages import State, TrialResult


class FinalistsBook(Book):
    """The missing runs of a study's finalists; a result becomes a user attribute of the study."""

    def __init__(
        self, entries: Sequence[Entry], book: StudyBook, recorder: Recorder, objectives: Sequence[Objective]
    ) -> None:
        self.study = book.study
        self._book = book
        self._recorder = recorder
        self._objectives = objectives
        self._entries = {entry.number: entry for entry in entries}
        self._waiting = deque(entries)
        self._runs: dict[int, FinalistRun] = {}  # over, and not written yet
        self._done = 0

    @property
    def total(self) -> int:
        """The number of missing runs."""
        return len(self._entries)

    @property
    def done(self) -> int:
        """The number of runs that are over."""
        return self._done

    def ask(self) -> Entry:
        """Return the next run."""
        return self._waiting.popleft()

    def tell(self, number: int, result: TrialResult, about: Mapping[str, Any]) -> None:
        """Take the result of a run."""
        entry, complete = self._entries[number], result.state is State.COMPLETE
        self._done += 1
        self._runs[number] = FinalistRun(
            trial=entry.trial,
            seed=entry.seed,
            run_id="",
            metrics=best_metrics(self._objectives, result) if complete else {},
            duration_s=result.duration_s or 0.0,
            reason=None if complete else result.reason or "it stopped early",
        )

    def settle(self, number: int, *, kept: bool = False) -> None:
        """Write a run with its MLflow id; one that is `kept` has none yet, and is added once it is recorded."""
        run = self._runs.pop(number)
        if not kept:
            self.set_user_attr(run.key, replace(run, run_id=self._recorder.run_id(number)).plain())

    def set_user_attr(self, key: str, value: Any) -> None:
        """Set an attribute of the sweep's study."""
        self._book.set_user_attr(key, value)
