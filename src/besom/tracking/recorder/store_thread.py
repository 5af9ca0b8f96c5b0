"""The recorder's thread: the only one that uses the MLflow client, and how it deals with an unreachable server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from besom.errors import StoreError
from besom.system.store_errors import Trouble
from besom.tracking.recorder.background import Background, Job
from besom.tracking.recorder.patience import Patience, StopRequest
from besom.tracking.store import Location, translated

_GRACE_S = 5.0  # for a call in the middle of which the user stops

_Answer = TypeVar("_Answer")


class StoreThread(Background):
    """A background thread whose jobs use the store, and which waits for an unreachable server until `hurry` is called.

    From then on `submit` and `raise_failure_unless_hurried` do not raise for an unreachable server.
    """

    def __init__(self, location: Location, notice: Callable[[str], None], wait_s: float) -> None:
        super().__init__("recorder", partial(translated, location))
        self.patience = Patience(location, notice, wait_s)
        self._location = location
        self._hurried = False

    def start(self) -> None:
        """Create the store's folder, and start the thread. Raises StoreError when it cannot be written."""
        self._location.prepare()
        super().start()

    def close(self) -> None:
        """End the thread after the jobs submitted so far; if nobody waits for the server, wait for a moment only."""
        self.end(within_s=0.0 if self.is_abandoned else _GRACE_S if self.patience.is_over else None)

    def submit(self, job: Job) -> None:
        """Add a job. Raises the exception of an earlier one."""
        with self._unless_hurried():
            super().submit(job)

    def ask(self, question: Callable[[], _Answer], unknown: _Answer) -> _Answer:
        """Return what `question` returns when the thread calls it; `unknown` if the server is unreachable."""
        answers: list[_Answer] = []
        self.submit(lambda: answers.append(question()))
        self.flush()
        return answers[0] if answers else unknown

    def raise_failure_unless_hurried(self) -> None:
        """Raise as `raise_failure` does, but not for an unreachable server after `hurry`."""
        with self._unless_hurried():
            self.raise_failure()

    def hurry(self) -> None:
        """Stop waiting for an unreachable server."""
        self._hurried = True
        self.patience.end()

    def check_server(self) -> None:
        """Notify the user of an unreachable server if a call takes long: MLflow retries it silently."""
        if not self._location.is_local and self.is_stuck(_GRACE_S):
            self.patience.check()

    def wait(
        self, stop: StopRequest, notices: Callable[[], Sequence[str]], notice: Callable[[str], None]
    ) -> StoreError | None:
        """Wait until all jobs so far are done, and once `stop` is set for no server.

        Passes what `notices` returns to `notice` meanwhile. Returns the error of an unreachable server. Raises
        StoreError for any other failure of a job.
        """
        for idle_s in self.until_done():
            for text in notices():
                notice(text)
            if stop.asked:
                stop.noticed = True
                self.patience.end()
                if idle_s > _GRACE_S and (stop.at_once or not self.patience.is_answering(within_s=_GRACE_S)):
                    break  # a call is in progress that nobody answers
        try:
            self.raise_failure()
        except StoreError as error:
            if error.trouble != Trouble.UNREACHABLE:
                raise
            return error
        return None

    @contextlib.contextmanager
    def _unless_hurried(self) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            if not (self._hurried and error.trouble == Trouble.UNREACHABLE):
                raise


class NullStoreThread(StoreThread):
    """The thread of a recorder without a store: no thread, which drops all jobs, so that every answer is unknown."""

    def start(self) -> None:
        """Do nothing."""

    def end(self, *, within_s: float | None) -> None:
        """Do nothing."""

    def submit(self, job: Job) -> None:
        """Drop the job."""

    def until_done(self) -> Iterator[float]:
        """Return at once: no job is left to do."""
        return iter(())
