"""A background thread that runs jobs in order, with ways to wait until it has run them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

_POLL_S = 0.05

Job = Callable[[], None]


class Background:
    """A thread that runs jobs in order, each within the context manager `around`, which may translate its exception.

    The first exception is raised once more, in the caller's thread, by the next call of `submit` or `raise_failure`.
    Jobs submitted from then on, including by that call, are still tried, but their exceptions are dropped.
    """

    def __init__(self, name: str, around: Callable[[], AbstractContextManager[None]]) -> None:
        self._around = around
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._error: BaseException | None = None
        self._failed = False
        self._done = 0  # jobs
        self._busy_since: float | None = None
        self._abandoned = False
        self.cpu_s = 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end(self, *, within_s: float | None) -> None:
        """End the thread after the jobs submitted so far; wait for it, but no longer than `within_s`."""
        self._jobs.put(None)
        self._thread.join(within_s)

    def submit(self, job: Job) -> None:
        """Add a job. Raises the exception of an earlier one."""

        def unless_abandoned() -> None:
            if not self._abandoned:
                job()

        earlier, self._error = self._error, None  # an exception of this job is raised by the next call
        self._jobs.put(unless_abandoned)  # even if this call raises: the caller does not submit the job again
        if earlier is not None:
            raise earlier

    def raise_failure(self) -> None:
        """Raise the exception of a job, unless it was raised before."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def flush(self) -> None:
        """Wait until all jobs submitted so far are done, or abandoned. Raises as `raise_failure` does."""
        for _ in self.until_done():
            if self._abandoned:
                break
        self.raise_failure()

    def until_done(self) -> Iterator[float]:
        """Yield, until all jobs so far are done, the seconds since the last job ended."""
        done = self.mark()
        seen, since = self._done, time.monotonic()
        while not done.wait(_POLL_S) and self._thread.is_alive():
            if self._done != seen:
                seen, since = self._done, time.monotonic()
            yield time.monotonic() - since

    def mark(self) -> threading.Event:
        """Return an event that is set once all jobs so far are done."""
        done = threading.Event()
        self._jobs.put(done.set)
        return done

    def abandon(self) -> None:
        """Skip all jobs that have not started yet."""
        self._abandoned = True

    @property
    def is_abandoned(self) -> bool:
        """True if jobs are skipped from now on."""
        return self._abandoned

    def is_stuck(self, limit_s: float) -> bool:
        """Return True if the current job takes longer than `limit_s`; again each time as long has passed."""
        began, now = self._busy_since, time.monotonic()
        if began is None or now - began <= limit_s or self._abandoned:
            return False
        self._busy_since = now
        return True

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            began, self._busy_since = time.thread_time(), time.monotonic()
            try:
                with self._around():
                    job()
            except BaseException as error:  # raised in the caller's thread
                if not self._failed:
                    self._failed, self._error = True, error
            self._done += 1
            self._busy_since = None
            self.cpu_s += time.thread_time() - began
