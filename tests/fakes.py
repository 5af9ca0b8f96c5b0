"""Fakes at Besom's own seams: workers that are threads and play instead of training, an observer that only listens."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from besom.sweep.progress.events import Dispatched, Ended, Requeued, SweepEvent, Warned
from besom.system.source_file import SourceFile
from besom.workers.devices import Device, Slot
from besom.workers.messages import (
    Assignment,
    Blame,
    Bundle,
    Failure,
    Finished,
    Message,
    Moment,
    Ready,
    Reported,
    Started,
    State,
    Stop,
    TrialResult,
)
from besom.workers.tasks import Task

Play = Callable[[Assignment], Iterator[Message]]

ABOUT = {
    "device": "cpu",
    "threads": 1,
    "parameters": 650,
    "versions": {"python": "3.11.0", "torch": "2.6.0"},
    "data": "digits",
    "digest": "0123456789abcdef" * 4,
    "sizes": {"train": 1079, "val": 359, "test": 359},
}


class Crash(Exception):
    """Raised in a play: the worker dies there, as by SIGKILL."""


def started(trial: int, sources: tuple[SourceFile, ...] | None = ()) -> Started:
    return Started(trial=trial, about=ABOUT, sources=sources)


def reported(trial: int, epoch: int, **metrics: float) -> Reported:
    """`val_acc=0.5` is the metric val/acc."""
    named = {name.replace("_", "/"): value for name, value in metrics.items()}
    return Reported(trial=trial, moment=Moment(epoch=epoch, step=epoch), metrics=named, time_s=time.time())


def completed(trial: int, value: float) -> Finished:
    return Finished(trial=trial, result=TrialResult(values=(value,), best_epoch=1, best_step=1, duration_s=0.5))


def pruned(trial: int) -> Finished:
    return Finished(trial=trial, result=TrialResult(state=State.PRUNED, duration_s=0.5))


def failed(trial: int, reason: str, traceback: str | None = None, blame: Blame = Blame.CODE) -> Finished:
    failure = Failure(reason=reason, traceback=traceback, blame=blame)
    return Finished(trial=trial, result=TrialResult(state=State.FAIL, failure=failure, duration_s=0.5))


def finishing(assignment: Assignment) -> Iterator[Message]:
    """A trial of one epoch whose objective is its learning rate."""
    trial, value = assignment.trial, assignment.config["optimizer"]["lr"]
    yield started(trial)
    yield reported(trial, 0, val_acc=0.0)
    yield reported(trial, 1, val_acc=value)
    yield completed(trial, value)


def failing(assignment: Assignment) -> Iterator[Message]:
    yield started(assignment.trial)
    yield failed(assignment.trial, "ValueError: no luck", "Traceback …\nValueError: no luck\n")


def crashing(assignment: Assignment) -> Iterator[Message]:
    yield started(assignment.trial)
    yield reported(assignment.trial, 0, val_acc=0.0)
    raise Crash


def crashing_at_once(assignment: Assignment) -> Iterator[Message]:
    raise Crash
    yield


class FakeWorker:
    """The worker's half of a real pipe, and what the pool asks of its process."""

    def __init__(
        self, pid: int, connection: Connection, play: Play, bundles: list[tuple[int, ...]], *, ready: bool
    ) -> None:
        self.pid = pid
        self._bundles = bundles
        self._connection = connection
        self._play = play
        self._ready = ready
        self._code: int | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def kill(self) -> None:
        # A thread cannot be killed; it ends with its pipe, and until then nobody hears it.
        if self._code is None:
            self._code = -signal.SIGKILL

    def wait(self) -> int:
        assert self._code is not None, "only what was killed, or died, is waited for"
        return self._code

    def _serve(self) -> None:
        try:
            if not self._ready:
                raise Crash
            self._connection.recv()  # the task
            self._connection.send(Ready())
            while True:
                match self._connection.recv():
                    case Bundle(assignments=assignments) as bundle:
                        self._bundles.append(bundle.trials)
                        for assignment in assignments:
                            self._perform(assignment)
        except Crash:
            self._code = -signal.SIGKILL
        except (EOFError, OSError):
            pass  # the pool closed its end
        finally:
            self._connection.close()

    def _perform(self, assignment: Assignment) -> None:
        """Play a trial; a stop that comes between two messages ends it there."""
        play = self._play(assignment)
        for message in play:
            self._connection.send(message)
            while not isinstance(message, Finished) and self._connection.poll():
                stop = self._connection.recv()
                if isinstance(stop, Stop) and stop.trial == assignment.trial:
                    play.close()
                    self._connection.send(pruned(assignment.trial))
                    return


class FakeLauncher:
    """Starts fake workers; `launched` are the slots they were started for, `bundles` the trials they got, in order."""

    def __init__(self, play: Play, *, ready: bool = True) -> None:
        self.launched: list[Slot] = []
        self.bundles: list[tuple[int, ...]] = []
        self._play = play
        self._ready = ready

    def __call__(self, slot: Slot, log: Path, task: Task) -> tuple[FakeWorker, Connection]:
        self.launched.append(slot)
        ours, theirs = Pipe()
        return FakeWorker(1_000_000 + len(self.launched), theirs, self._play, self.bundles, ready=self._ready), ours


def cpu_slots(count: int) -> list[Slot]:
    return [Slot(index=index, devices=(Device(kind="cpu", name="a CPU"),)) for index in range(count)]


@dataclass
class ListeningObserver:
    """Notes the events of a sweep; `on_event` may do something at each of them."""

    on_event: Callable[[SweepEvent], None] = lambda event: None
    starts: list[int] = field(default_factory=list)
    attempts: list[tuple[int, int]] = field(default_factory=list)
    states: dict[int, State] = field(default_factory=dict)
    values: dict[int, float | None] = field(default_factory=dict)
    reasons: dict[int, str | None] = field(default_factory=dict)
    feasible: dict[int, bool] = field(default_factory=dict)
    requeued: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __call__(self, event: SweepEvent) -> None:
        match event:
            case Dispatched(trial=trial, attempt=attempt):
                self.starts.append(trial)
                self.attempts.append((trial, attempt))
            case Reported(trial=trial):
                assert trial in self.starts
            case Ended(trial=trial, result=result):
                self.states[trial] = result.state
                self.values[trial] = result.values[0] if result.values else None
                self.reasons[trial] = result.reason
                self.feasible[trial] = result.feasible
            case Requeued(trial=trial):
                self.requeued.append(trial)
            case Warned(text=text):
                self.warnings.append(text)
        self.on_event(event)
