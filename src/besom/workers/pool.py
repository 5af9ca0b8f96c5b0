"""The worker pool, with one warm worker process per device slot: submit bundles, read events.

Each worker is a process with its own pipe, so that its death affects only its own trials. The closed pipe also makes a
death noticeable, within milliseconds.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from besom.errors import BesomError
from besom.secrets.masks import without_secrets
from besom.system.processes import how_it_ended, start
from besom.workers import fork_server
from besom.workers.devices import Slot
from besom.workers.messages import Bundle, Finished, Message, Ready, Stop
from besom.workers.tasks import Inspection, Spawning, Task, Training


@dataclass(frozen=True, kw_only=True)
class Died:
    """A worker died, and its trials with it; its slot gets a new worker at the next bundle.

    `worker` is the process id that it had on this machine.
    """

    trials: tuple[int, ...]
    reason: str
    worker: int | None = None


Event = Message | Died


_MAX_STARTUP_DEATHS = 2  # consecutive workers of a slot that may be killed before they are ready


class Process(Protocol):
    """The interface of a worker's process."""

    @property
    def pid(self) -> int:
        """The process id."""

    def kill(self) -> None:
        """Kill the process and its children."""

    def wait(self) -> int:
        """Wait for the process; return the exit code, negative for a signal."""


class Launcher(Protocol):
    """Starts the worker of a slot; tests may start one that crashes."""

    def __call__(self, slot: Slot, log: Path, task: Task) -> tuple[Process, Connection]:
        """Return the process, which waits for its task, and the parent's end of its pipe."""


def launch(slot: Slot, log: Path, task: Task) -> tuple[Process, Connection]:
    """Start a worker in a new session, with its output in a log file.

    A slot of several devices gets a rank for each, unless the trials start them themselves.
    """
    environment = {**os.environ, **slot.environment}
    with log.open("ab") as output:
        if len(slot.devices) > 1 and not (isinstance(task, Spawning) and task.spawns):
            return start("besom.workers.ddp", str(len(slot.devices)), environment=environment, output=output)
        # Another app may have to run code before it imports torch. Forking was not tried with a GPU.
        if isinstance(task, Training | Inspection) and slot.device.kind == "cpu":
            return fork_server.start_worker(environment, output)
        return start("besom.workers.worker", environment=environment, output=output)


@dataclass(eq=False)
class _Worker:
    slot: Slot
    process: Process
    connection: Connection
    log: Path
    ready: bool = False
    bundle: Bundle | None = None
    pending: set[int] = field(default_factory=set)
    stops: list[Stop] = field(default_factory=list)  # of the bundle's trials
    served: int = 0
    spent: bool = False  # its last trial left something that only a new process is without

    def send(self, message: Task | Bundle | Stop) -> None:
        with contextlib.suppress(OSError):  # it has just died: `events` will notice and name the trials
            self.connection.send(message)

    def end(self) -> int:
        self.connection.close()
        self.process.kill()
        return self.process.wait()


class Pool(Protocol):
    """A context manager that runs bundles in slots and yields events."""

    def __enter__(self) -> Self:
        """Start the slots."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots, in order."""

    def idle(self) -> list[Slot]:
        """Return the slots without a bundle."""

    @property
    def reports(self) -> bool:
        """True if a trial's reports arrive while it runs, so that it can be pruned."""

    def is_ready(self, slot: Slot) -> bool:
        """Return whether a slot's worker has imported its libraries."""

    def log(self, slot: Slot) -> Path | None:
        """Return the file with the output of a slot's trials, if it is known."""

    def submit(self, slot: Slot, bundle: Bundle) -> None:
        """Run a bundle in an idle slot."""

    def stop(self, slot: Slot, trial: int, *, at_once: bool) -> None:
        """End a trial early, before its next step or after its epoch."""

    def replace(self, slot: Slot) -> None:
        """End what runs in a slot, and start the slot anew."""

    def events(self, *, timeout_s: float) -> Iterator[Event]:
        """Yield the events; wait at most `timeout_s` for the first one."""

    def close(self) -> None:
        """End everything."""


class WorkerPool:
    """A pool of local workers for the given slots, started on entry and ended on exit.

    The first workers import torch while the caller continues: `submit` does not wait for them. A worker that has run
    `max_trials` is replaced by a fresh one, as a protection against code that leaks memory, and so is one in which a
    trial left what cannot be put back.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        task: Task,
        *,
        logs: Path,
        launcher: Launcher = launch,
        max_trials: int | None = None,
    ) -> None:
        self._slots = tuple(slots)
        self._task = task
        self._logs = logs
        self._launcher = launcher
        self._max_trials = max_trials
        self._workers: dict[Slot, _Worker] = {}
        self._startup_deaths = Counter[Slot]()

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        for slot in self._slots:
            self._start(slot)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, whatever they are training."""
        for worker in self._workers.values():
            worker.connection.close()
            worker.process.kill()  # nothing is lost: a worker sends all it has at once
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots, in order."""
        return self._slots

    def idle(self) -> list[Slot]:
        """Return the slots without a bundle."""
        return [slot for slot in self._slots if slot not in self._workers or not self._workers[slot].pending]

    @property
    def reports(self) -> bool:
        """True: a worker reports at once."""
        return True

    def log(self, slot: Slot) -> Path:
        """Return the file with the output of a slot's workers."""
        return self._logs / f"worker-{slot.index}.log"

    def is_ready(self, slot: Slot) -> bool:
        """Return whether the worker of a slot has imported its libraries."""
        return slot in self._workers and self._workers[slot].ready

    def submit(self, slot: Slot, bundle: Bundle) -> None:
        """Send a bundle to the worker of an idle slot; start a new worker there if the last one died."""
        worker = self._workers.get(slot) or self._start(slot)
        if worker.spent or (self._max_trials is not None and worker.served >= self._max_trials):
            worker.end()
            worker = self._start(slot)
        worker.bundle, worker.pending, worker.stops = bundle, set(bundle.trials), []
        worker.served += len(bundle.trials)
        worker.send(bundle)

    def stop(self, slot: Slot, trial: int, *, at_once: bool) -> None:
        """Send a slot's worker the request to end a trial early, before its next step or after its epoch."""
        if slot in self._workers:  # else it has just died
            self._workers[slot].stops.append(Stop(trial=trial, at_once=at_once))
            self._workers[slot].send(self._workers[slot].stops[-1])

    def replace(self, slot: Slot) -> None:
        """End a slot's worker, whatever it is training, and start a new one."""
        worker = self._workers.pop(slot, None)
        if worker is not None:
            worker.end()
        self._start(slot)

    def events(self, *, timeout_s: float) -> Iterator[Event]:
        """Yield the workers' messages until no more are waiting; wait at most `timeout_s` for the first one."""
        by_connection = {worker.connection: worker for worker in self._workers.values()}
        for connection in wait(list(by_connection), timeout=timeout_s):
            worker = by_connection[connection]  # type: ignore[index]
            yield from self._drain(worker)

    def _drain(self, worker: _Worker) -> Iterator[Event]:
        try:
            # An earlier message may have caused the worker's replacement.
            while self._workers.get(worker.slot) is worker and worker.connection.poll():
                message: Message = worker.connection.recv()
                if isinstance(message, Ready):
                    worker.ready = True
                    del self._startup_deaths[worker.slot]
                elif isinstance(message, Finished):
                    worker.pending.discard(message.trial)
                    worker.spent = worker.spent or message.left is not None
                yield message
        except (EOFError, OSError):
            yield from self._reap(worker)

    def _reap(self, worker: _Worker) -> Iterator[Died]:
        code = worker.end()
        del self._workers[worker.slot]
        how = how_it_ended(code)
        if not worker.ready:
            self._startup_deaths[worker.slot] += 1
            if code >= 0 or self._startup_deaths[worker.slot] > _MAX_STARTUP_DEATHS:
                # A new worker would die again: stop instead of starting workers forever.
                raise BesomError(f"a worker {how} before it was ready; {_last_log_line(worker.log)}")
            self._start(worker.slot)  # it was killed, and its trials have not begun
            if worker.bundle is not None:
                self.submit(worker.slot, worker.bundle)
            for stop in worker.stops:
                self.stop(worker.slot, stop.trial, at_once=stop.at_once)
            return
        yield Died(
            trials=tuple(sorted(worker.pending)),
            reason=f"the worker (pid {worker.process.pid}) {how}; its log is {worker.log}",
            worker=worker.process.pid,
        )

    def _start(self, slot: Slot) -> _Worker:
        log = self.log(slot)
        process, connection = self._launcher(slot, log, self._task)
        worker = _Worker(slot, process, connection, log)
        worker.send(self._task)
        self._workers[slot] = worker
        return worker


def _last_log_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"its last words: {without_secrets(last)}; more in {log}" if last else f"its log is in {log}"
