"""A thread that does jobs in order while whoever hands them over goes on, and waiting until it has done them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

_LOOK_EVERY_S = 0.05

Job = Callable[[], None]


class Background:
    """One thread; each of its jobs runs within `around`, which may translate what it raises.

    What is raised there first is raised once more, by the next call of `submit` or `raise_failure`. What is submitted
    from then on, by that call too, is still tried, but no failure of it is told.
    """

    def __init__(self, name: str, around: Callable[[], AbstractContextManager[None]]) -> None:
        self._around = around
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._error: BaseException | None = None
        self._failed = False
        self._done = 0  # jobs
        self._busy_since: float | None = None
        self._left = False
        self.cpu_s = 0.0

    def start(self) -> None:
        """Begin with the jobs."""
        self._thread.start()

    def end(self, *, within_s: float | None) -> None:
        """End after the jobs that were submitted so far; wait for that, but no longer than `within_s`."""
        self._jobs.put(None)
        self._thread.join(within_s)

    def submit(self, job: Job) -> None:
        """Have a job done after those before it. Raises what one of these has raised."""

        def unless_left() -> None:
            if not self._left:
                job()

        earlier, self._error = self._error, None  # what this job comes to, the next call tells
        self._jobs.put(unless_left)  # in any case: who is told of an error does not ask again
        if earlier is not None:
            raise earlier

    def raise_failure(self) -> None:
        """Raise what a job has raised, if that was not told yet."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def flush(self) -> None:
        """Wait until all jobs are done that were submitted so far, unless they were left. Raises as `raise_failure`."""
        for _ in self.until_done():
            if self._left:
                break
        self.raise_failure()

    def until_done(self) -> Iterator[float]:
        """Yield now and then, until all jobs so far are done: for how many seconds no job has been through."""
        done = self.mark()
        seen, since = self._done, time.monotonic()
        while not done.wait(_LOOK_EVERY_S) and self._thread.is_alive():
            if self._done != seen:
                seen, since = self._done, time.monotonic()
            yield time.monotonic() - since

    def mark(self) -> threading.Event:
        """Return an event that is set once all jobs so far are done."""
        done = threading.Event()
        self._jobs.put(done.set)
        return done

    def leave(self) -> None:
        """Do none of the jobs that are not begun yet."""
        self._left = True

    @property
    def is_left(self) -> bool:
        """Whether no job is done any more."""
        return self._left

    def is_long_at_work(self, limit_s: float) -> bool:
        """Whether one job has taken longer than that, each time that so long has passed."""
        began, now = self._busy_since, time.monotonic()
        if began is None or now - began <= limit_s or self._left:
            return False
        self._busy_since = now
        return True

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            began, self._busy_since = time.thread_time(), time.monotonic()
            try:
                with self._around():
                    job()
            except BaseException as error:  # carried over to the caller's thread
                if not self._failed:
                    self._failed, self._error = True, error
            self._done += 1
            self._busy_since = None
            self.cpu_s += time.thread_time() - began
