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
from besom.sweep.progress.events import (
    Dispatched,
    Ended,
    Polled,
    Requeued,
    Retried,
    StopRequested,
    SweepEvent,
    Warned,
)
from besom.sweep.progress.text import result_text
from besom.system.store_errors import Trouble, trouble_of
from besom.workers.messages import Reported, Sized, State


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


class SweepLog:
    """Logs a line for each event except epochs."""

    def __init__(self, path: Path, *, study: str, objectives: Sequence[Objective]) -> None:
        self._log = LogFile(path)
        self._study = study
        self._objectives = tuple(objectives)

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

    def __call__(self, event: SweepEvent) -> None:
        """Log an event."""
        if (line := self._line(event)) is not None:
            self._log.write(line)

    def _line(self, event: SweepEvent) -> str | None:
        match event:
            case Dispatched(trial=trial, slot=slot, attempt=attempt):
                again = f", attempt {attempt + 1}" if attempt else ""
                return f"trial {trial} started in slot {slot.index} on {slot}{again}"
            case Sized(trial=trial, members=members, of=of):
                return f"bundle of {of} with trial {trial}: {members} train at once"
            case Ended(trial=trial, result=result):
                text = result_text(self._objectives, event, result.reason)
                return f"trial {trial} {'finished: ' if result.state is State.COMPLETE else ''}{text}"
            case Retried(trial=trial, reason=reason):
                return f"trial {trial} failed and is run again: {reason}"
            case Requeued(trial=trial):
                return f"interrupted, for the same command to take up: trial {trial}"
            case Warned(text=text):
                return f"warning: {text}"
            case StopRequested():
                return "asked to stop"
            case Reported() | Polled():
                return None
