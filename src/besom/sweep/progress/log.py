"""The log file of a sweep: its events with their times."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from besom.config.objectives import Objective
from besom.errors import StoreError
from besom.reports.read.failures import one_line
from besom.secrets.masks import without_secrets
from besom.sweep.progress.observer import Observer, outcome, told_trials
from besom.system.store_errors import Trouble, trouble_of
from besom.workers.devices import Slot
from besom.workers.messages import State


class LogFile:
    """A file to which lines are appended, each with its time and flushed at once; secrets are masked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        """Open the file. Raises StoreError when it cannot be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            remedy = "make room on the disk" if trouble_of(error) is Trouble.FULL else "make it and its folder writable"
            raise StoreError(f"{self._path}: cannot be written ({error.strerror}); {remedy}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, line: str) -> None:
        """Append a line if the file is open."""
        if self._file is None:
            return
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="milliseconds")
        try:
            self._file.write(f"{now}  {without_secrets(one_line(line))}\n")
            self._file.flush()
        except OSError:  # the recorder reports a full disk, and better
            self._file = None


class SweepLog(Observer):
    """Logs a line for each event except epochs."""

    def __init__(self, path: Path, *, study: str, objectives: Sequence[Objective]) -> None:
        self._log = LogFile(path)
        self._study = study
        self._objectives = tuple(objectives)
        self._epochs: dict[int, int] = {}

    def __enter__(self) -> Self:
        """Open the file. Raises StoreError when it cannot be written."""
        self._log.__enter__()
        wanted = ", ".join(str(objective) for objective in self._objectives)
        self._log.write(f"sweep {self._study} begins: {wanted}; process {os.getpid()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.write(f"sweep {self._study} ends" + (f": {type(error).__name__} {error}".rstrip() if error else ""))
        self._log.__exit__(kind, error, trace)

    def started(self, trial: int, slot: Slot, attempt: int = 0) -> None:
        """Log the trial's slot and device."""
        self._epochs[trial] = 0
        again = f", attempt {attempt + 1}" if attempt else ""
        self._log.write(f"trial {trial} started in slot {slot.index} on {slot}{again}")

    def sized(self, trial: int, members: int, of: int) -> None:
        """Log how many members of a bundle train at once."""
        self._log.write(f"bundle of {of} with trial {trial}: {members} train at once")

    def reported(self, trial: int, epoch: int, value: float | None) -> None:
        """Store the epoch without a line."""
        self._epochs[trial] = epoch

    def finished(
        self, trial: int, state: State, values: tuple[float, ...], reason: str | None, feasible: bool = True
    ) -> None:
        """Log the trial's values, or the reason of its end."""
        epoch = self._epochs.pop(trial, 0)
        result = outcome(self._objectives, state, values, reason, feasible=feasible, epoch=epoch)
        self._log.write(f"trial {trial} {'finished: ' if state is State.COMPLETE else ''}{result}")

    def retrying(self, trial: int, reason: str) -> None:
        """Log the reason of the retry."""
        self._log.write(f"trial {trial} failed and is run again: {reason}")

    def interrupted(self, trials: Sequence[int]) -> None:
        """Log the trials that will be run again."""
        if trials:
            self._log.write(f"interrupted, for the same command to take up: {told_trials(trials)}")

    def warned(self, text: str) -> None:
        """Log the warning."""
        self._log.write(f"warning: {text}")

    def stopping(self) -> None:
        """Log the stop request."""
        self._log.write("asked to stop")
