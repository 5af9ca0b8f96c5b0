"""The worker's loop: `python -m besom.workers.worker FD` runs the bundles that arrive over the pipe until it closes.

A worker runs many trials, so that imports and data are loaded only once. It dies with its parent process, however that
ends, because the parent's end of the pipe closes with it.
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
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from besom.config.extras.logged import Log
from besom.errors import BesomError, DataError, TrialPruned, kind_and_line
from besom.secrets.masks import hidden_override, hide_in_output, remember_secrets_of
from besom.system.processes import adopt, end_with_children
from besom.system.store_errors import says_disk_is_full
from besom.training.progress import Channel, Moment
from besom.workers.memory import Memory
from besom.workers.messages import (
    Assignment,
    Blame,
    Bundle,
    Failure,
    Finished,
    Logged,
    Ready,
    Reported,
    Sized,
    Started,
    State,
    Stop,
    TrialResult,
)
from besom.workers.sources import SOURCES
from besom.workers.surroundings import Surroundings
from besom.workers.tasks import Bundling, Run, Task


def main(descriptor: int) -> None:
    """Serve the pipe at a file descriptor that was inherited from the parent process."""
    sys.path.append(str(Path.cwd()))  # finds a user's own modules, after all others, as `besom` does
    SOURCES.watch()
    # ctrl-C reaches the whole process group; only the parent process decides what happens to the trials.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        hide_in_output(stream)
    parent = Parent(adopt(descriptor))
    threading.Thread(target=parent.listen, daemon=True).start()
    task = parent.tasks.get()
    gc.disable()  # it takes a third of the import time and finds nothing
    run = task.load()
    gc.freeze()
    gc.enable()
    parent.send(Ready())
    # A job of another app may leave anything in reference cycles; Besom's own trials leave little.
    memory, surroundings = Memory(always=not isinstance(task, Bundling)), Surroundings()
    while True:
        bundle = parent.bundles.get()
        _log_beginning(bundle)
        if len(bundle.trials) > 1 and isinstance(task, Bundling):
            trials = [Trial(number, parent, waits=True) for number in bundle.trials]
            for finished in _finish_together(task, bundle, trials, parent.send):
                parent.send(_put_back(surroundings, finished))
        else:
            for assignment in bundle.assignments:
                finished = finish(run, assignment, Trial(assignment.trial, parent))
                parent.send(_put_back(surroundings, finished))
        memory.trial_over()


def _log_beginning(bundle: Bundle) -> None:
    """Separate the output of a bundle's trials from what is before it in the log."""
    first, last = bundle.trials[0], bundle.trials[-1]
    which = f"trial {first}" if first == last else f"a bundle of {len(bundle.trials)}, trials {first} to {last}"
    overrides = " ".join(map(hidden_override, bundle.assignments[0].overrides))
    sys.stdout.flush()
    print(f"---- besom: {which} begins{overrides and ': '}{overrides}", file=sys.stderr, flush=True)


def _put_back(surroundings: Surroundings, finished: Finished) -> Finished:
    """Put back what a trial changed in this process; note what cannot be, and log it."""
    left = surroundings.put_back(failed=finished.result.state is State.FAIL)
    if left is not None:
        _log(f"trial {finished.trial} left {left}: a new process takes this one's place")
    return replace(finished, left=left)


class Parent:
    """The parent's end of the pipe: a thread sorts its messages; messages to it are sent one at a time."""

    def __init__(self, connection: Connection) -> None:
        self.tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self.bundles: queue.SimpleQueue[Bundle] = queue.SimpleQueue()
        self.stops: dict[int, Stop] = {}
        self._connection = connection
        self._sending = threading.Lock()

    def listen(self) -> None:
        """Sort incoming messages; end the process and its children when the parent process is gone."""
        try:
            while True:
                match self._connection.recv():
                    case Bundle() as bundle:
                        for trial in bundle.trials:
                            self.stops.pop(trial, None)  # from an earlier attempt
                        self.bundles.put(bundle)
                    case Stop() as stop:
                        self.stops[stop.trial] = stop
                    case task:
                        self.tasks.put(task)
        except (EOFError, OSError):
            # The parent process died or closed the pipe, perhaps in the middle of a step.
            end_with_children()
        except Exception:  # a task that cannot be unpickled here: the traceback is in the log
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def send(self, message: object) -> None:
        """Send a message; thread-safe."""
        with self._sending:
            self._connection.send(message)


class Trial:
    """The channel of one trial. It begins now or, if it `waits` in a bundle, when it starts.

    `began_s` is a monotonic time: use it for durations only.
    """

    def __init__(self, number: int, parent: Parent, *, waits: bool = False) -> None:
        self._number = number
        self._parent = parent
        self._waits = waits
        self._begin()

    def _begin(self) -> None:
        self.began_s, self._began_at_s = time.perf_counter(), time.time()

    def started(self, about: Mapping[str, Any]) -> None:
        """Report that everything is built and the first step is next."""
        if self._waits:
            self._begin()
        started = Started(trial=self._number, about=about, began_s=self._began_at_s, sources=SOURCES.take())
        self._parent.send(started)

    def report(self, moment: Moment, metrics: Mapping[str, float]) -> None:
        """Report the metrics of a validation, or of an epoch that has ended."""
        self._parent.send(Reported(trial=self._number, moment=moment, metrics=metrics, time_s=time.time()))

    def log(self, log: Log) -> None:
        """Pass on what the trial's logger has received."""
        self._parent.send(Logged(trial=self._number, log=log))

    def should_stop(self, *, in_epoch: bool) -> bool:
        """Return whether to stop early; `in_epoch` when called between steps, not after a report."""
        stop = self._parent.stops.get(self._number)
        return stop is not None and (stop.at_once or not in_epoch)


def finish(run: Run, assignment: Assignment, channel: Channel) -> Finished:
    """Run a trial and return its result, whatever it raises."""
    began = time.perf_counter()
    remember_secrets_of(assignment.config)
    try:
        return _finished(assignment.trial, run(assignment, channel), began)
    except Exception as error:
        finished = _finished(assignment.trial, error, began)
    _clean_after(finished)  # only here has Python released the exception, with its frames and tensors
    return finished


def _finish_together(
    task: Bundling, bundle: Bundle, trials: Sequence[Trial], send: Callable[[Finished | Sized], None]
) -> list[Finished]:
    """Run the trials of a bundle, and send the result of each as soon as it has ended; return those that are left."""
    left = dict(zip(bundle.trials, trials, strict=True))
    for assignment in bundle.assignments:
        remember_secrets_of(assignment.config)

    last: list[Finished] = []

    def on_finished(trial: int, end: TrialResult | Exception) -> None:
        finished = _finished(trial, end, left.pop(trial).began_s)
        if left:
            send(finished)
        else:
            last.append(finished)

    def on_sized(trial: int, members: int, of: int) -> None:
        send(Sized(trial=trial, members=members, of=of))

    try:
        task.run_together(bundle, trials, on_finished, on_sized)
    except Exception as error:
        last += [_finished(number, error, trial.began_s) for number, trial in left.items()]
    for message in last:
        _clean_after(message)
    return last


def _finished(trial: int, end: TrialResult | Exception, began: float) -> Finished:
    if isinstance(end, TrialResult):
        result = end
    elif _is_pruned(end):
        result = TrialResult(state=State.PRUNED)
    else:
        text = "".join(traceback.format_exception(end))
        failure = Failure(reason=_reason(end), traceback=text, blame=_blame(end)).without_secrets()
        _log(f"trial {trial} failed\n{failure.traceback}")
        result = TrialResult(state=State.FAIL, failure=failure)
    result = replace(
        result, duration_s=time.perf_counter() - began, ended_s=time.time(), worker=os.getpid(), host=platform.node()
    )
    return Finished(trial=trial, result=result)


def _log(text: str) -> None:
    """Write to this worker's log, whatever a job has made of `sys.stderr`."""
    with contextlib.suppress(OSError, ValueError):
        print(f"besom: {text.rstrip()}", file=sys.__stderr__, flush=True)


def _clean_after(finished: Finished) -> None:
    failure = finished.result.failure
    if failure is not None and failure.blame is Blame.MEMORY:
        _clean()


def _is_pruned(error: BaseException) -> bool:
    # By name as well: an app may raise Optuna's exception, and a worker does not import Optuna.
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
    # Hydra's instantiate wraps what a constructor raises: inspect the causes.
    for cause in _chain(error):
        if isinstance(cause, DataError):
            return Blame.DATA
        if isinstance(cause, BesomError):
            return Blame.USER
        if says_disk_is_full(cause):
            return Blame.DISK
        # torch.OutOfMemoryError, or an error of the libraries below it.
        if type(cause).__name__ == "OutOfMemoryError" or _NO_MEMORY.search(str(cause)):
            return Blame.MEMORY
    return Blame.CODE


def _reason(error: Exception) -> str:
    chain = _chain(error)
    user_error = next((cause for cause in chain if isinstance(cause, BesomError)), None)
    if user_error is not None:
        return str(user_error)
    # By name: a worker of Besom's own configs does not import it for this.
    met = [cause for cause in chain if type(cause).__name__ != "InstantiationException"]
    return kind_and_line(met[0] if met else error)


def _clean() -> None:
    """Release the device's cached memory, so that other trials on it can use it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):  # after some errors the device does not respond; the worker is replaced
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main(int(sys.argv[1]))
