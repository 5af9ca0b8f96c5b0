"""The worker's own loop: `python -m besom.workers.worker FD` runs what comes over the pipe until it closes.

A worker outlives its trials: imports and data are paid for once. It dies with its parent, because the parent's
end of the pipe closes with it, whatever ended the parent.
"""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import queue
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from besom.errors import BesomError, DataError, TrialPruned, kind_and_line
from besom.secrets.masks import hide_in_output, remember_secrets_of
from besom.system.processes import adopt, end_with_children
from besom.system.store_errors import says_disk_is_full
from besom.training.progress import Channel, Outcome
from besom.workers.memory import Memory
from besom.workers.messages import (
    Assignment,
    Blame,
    Bundle,
    Failure,
    Finished,
    Ready,
    Reported,
    Sized,
    Started,
    State,
    Stop,
)
from besom.workers.sources import SOURCES
from besom.workers.tasks import Bundling, Run, Task


def main(descriptor: int) -> None:
    """Serve the pipe at a file descriptor that was inherited from the parent."""
    sys.path.append(str(Path.cwd()))  # a user's own modules are found, as by `besom`: after all others
    SOURCES.watch()
    # ctrl-C reaches the whole process group; what becomes of the trials is the parent's decision alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        hide_in_output(stream)
    parent = Parent(adopt(descriptor))
    threading.Thread(target=parent.listen, daemon=True).start()
    task = parent.tasks.get()
    gc.disable()  # a third of the time of such imports, for which it finds nothing
    run = task.load()
    gc.freeze()
    gc.enable()
    parent.send(Ready())
    memory = Memory()
    while True:
        bundle = parent.bundles.get()
        if len(bundle.trials) > 1 and isinstance(task, Bundling):
            trials = [Trial(number, parent, waits=True) for number in bundle.trials]
            finish_together(task, bundle, trials, parent.send)
        else:
            for assignment in bundle.assignments:
                parent.send(finish(run, assignment, Trial(assignment.trial, parent)))
        memory.trial_over()


class Parent:
    """The other end of the pipe. What it says is sorted by a thread; what it is told is sent one by one."""

    def __init__(self, connection: Connection) -> None:
        self.tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self.bundles: queue.SimpleQueue[Bundle] = queue.SimpleQueue()
        self.stops: dict[int, Stop] = {}
        self._connection = connection
        self._sending = threading.Lock()

    def listen(self) -> None:
        """Sort what comes in; end the process, and whatever it started, when the parent is gone."""
        try:
            while True:
                match self._connection.recv():
                    case Bundle() as bundle:
                        for trial in bundle.trials:
                            self.stops.pop(trial, None)  # of an earlier attempt
                        self.bundles.put(bundle)
                    case Stop() as stop:
                        self.stops[stop.trial] = stop
                    case task:
                        self.tasks.put(task)
        except (EOFError, OSError):
            # The parent is gone or done with us, in the middle of a step or not.
            end_with_children()
        except Exception:  # a task that cannot be unpickled here: its words are in the log
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def send(self, message: object) -> None:
        """Send a message; any thread may."""
        with self._sending:
            self._connection.send(message)


class Trial:
    """One trial's part of the conversation. It begins now or, if it `waits` in a bundle, where it starts.

    `began_s` is by a clock that nobody sets; it says nothing but how long ago that was.
    """

    def __init__(self, number: int, parent: Parent, *, waits: bool = False) -> None:
        self._number = number
        self._parent = parent
        self._waits = waits
        self._begin()

    def _begin(self) -> None:
        self.began_s, self._began_at_s = time.perf_counter(), time.time()

    def started(self, about: Mapping[str, Any]) -> None:
        """Everything is built; the first step is next."""
        if self._waits:
            self._begin()
        told = Started(trial=self._number, about=about, began_s=self._began_at_s, sources=SOURCES.told())
        self._parent.send(told)

    def report(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Say the metrics after an epoch."""
        self._parent.send(Reported(trial=self._number, epoch=epoch, metrics=metrics, time_s=time.time()))

    def should_stop(self, *, in_epoch: bool) -> bool:
        """Whether to stop early: asked `in_epoch`, between steps, or else between two epochs."""
        stop = self._parent.stops.get(self._number)
        return stop is not None and (stop.at_once or not in_epoch)


def finish(run: Run, assignment: Assignment, channel: Channel) -> Finished:
    """Run a trial and return how it ended, whatever it raised."""
    began = time.perf_counter()
    remember_secrets_of(assignment.config)
    try:
        return _ended(assignment.trial, run(assignment, channel), began)
    except Exception as error:
        finished = _ended(assignment.trial, error, began)
    _clean_after(finished)  # only here, where Python has let go of the error, and of the frames and tensors behind it
    return finished


def finish_together(
    task: Bundling, bundle: Bundle, trials: Sequence[Trial], send: Callable[[Finished | Sized], None]
) -> None:
    """Run the trials of a bundle, and send how each ended as soon as it has."""
    left = dict(zip(bundle.trials, trials, strict=True))
    for assignment in bundle.assignments:
        remember_secrets_of(assignment.config)

    def over(trial: int, came_to: Outcome | Exception) -> None:
        send(_ended(trial, came_to, left.pop(trial).began_s))

    def sized(trial: int, members: int, of: int) -> None:
        send(Sized(trial=trial, members=members, of=of))

    try:
        task.run_together(bundle, trials, over, sized)
        return
    except Exception as error:
        finished = [_ended(number, error, trial.began_s) for number, trial in left.items()]
    for one in finished:
        _clean_after(one)
        send(one)


def _ended(trial: int, came_to: Outcome | Exception, began: float) -> Finished:
    state, outcome, failure = State.COMPLETE, None, None
    if not isinstance(came_to, Exception):
        outcome = came_to
    elif _is_pruned(came_to):
        state = State.PRUNED
    else:
        state = State.FAIL
        told = "".join(traceback.format_exception(came_to))
        failure = Failure(reason=_reason(came_to), traceback=told, blame=_blame(came_to)).without_secrets()
    duration_s = time.perf_counter() - began
    return Finished(
        trial=trial, state=state, duration_s=duration_s, outcome=outcome, failure=failure,
        worker=os.getpid(), host=platform.node(),
    )  # fmt: skip


def _clean_after(finished: Finished) -> None:
    if finished.failure is not None and finished.failure.blame is Blame.MEMORY:
        _clean()


def _is_pruned(error: BaseException) -> bool:
    # By name as well: an app may raise Optuna's, and a worker does not import Optuna.
    return isinstance(error, TrialPruned) or any(
        kind.__name__ == "TrialPruned" and kind.__module__.startswith("optuna") for kind in type(error).__mro__
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__
    return chain


_NO_MEMORY = re.compile(r"(CUDA|HIP|backend|CUDA error:|HIP error:) out of memory|_STATUS_ALLOC_FAILED")


def _blame(error: Exception) -> Blame:
    # Hydra's instantiate wraps what a constructor raises: look through to the causes.
    for cause in _chain(error):
        if isinstance(cause, DataError):
            return Blame.DATA
        if isinstance(cause, BesomError):
            return Blame.USER
        if says_disk_is_full(cause):
            return Blame.DISK
        # torch.OutOfMemoryError, or what the libraries under it raise.
        if type(cause).__name__ == "OutOfMemoryError" or _NO_MEMORY.search(str(cause)):
            return Blame.MEMORY
    return Blame.CODE


def _reason(error: Exception) -> str:
    chain = _chain(error)
    told = next((cause for cause in chain if isinstance(cause, BesomError)), None)
    if told is not None:
        return str(told)
    return kind_and_line(chain[-1])


def _clean() -> None:
    """Give the device's memory back, so that other trials on it have it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):  # after some errors the device answers no more; the worker is replaced
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main(int(sys.argv[1]))
