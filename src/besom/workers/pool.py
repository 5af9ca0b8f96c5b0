"""One warm worker process per device slot: submit bundles, read events.

Each worker is a process of its own with a pipe of its own, so that the death of one costs only its own trials. The
pipe's end is also how a death is noticed, within milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from besom.errors import BesomError
from besom.workers.devices import Slot
from besom.workers.messages import Bundle, Finished, Message, Ready


@dataclass(frozen=True, kw_only=True)
class Died:
    """A worker is gone, and with it these trials; its slot gets a new worker at the next bundle."""

    trials: tuple[int, ...]
    reason: str


Event = Message | Died


class Process(Protocol):
    """What the pool asks of a worker's process."""

    pid: int

    def kill(self) -> None:
        """End it at once."""

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code, negative for a signal."""


class Launcher(Protocol):
    """Starts the worker of a slot; a test may start one that crashes."""

    def __call__(self, slot: Slot, log: Path) -> tuple[Process, Connection]:
        """Return the process and the parent's end of its pipe."""


def launch(slot: Slot, log: Path) -> tuple[Process, Connection]:
    """Start a worker in a process group of its own, its output going to a log file."""
    ours, theirs = socket.socketpair()
    with theirs, log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "besom.workers.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, **slot.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,  # a ctrl-C in the terminal is for the parent alone
        )
    return process, Connection(ours.detach())


@dataclass(eq=False)
class _Worker:
    slot: Slot
    process: Process
    connection: Connection
    log: Path
    ready: bool = False
    pending: set[int] = field(default_factory=set)


class WorkerPool:
    """Workers for the given slots, started on entry and gone on exit.

    The first workers import torch while the caller goes on: `submit` does not wait for them.
    """

    def __init__(self, slots: Sequence[Slot], *, logs: Path, launcher: Launcher = launch) -> None:
        self._slots = tuple(slots)
        self._logs = logs
        self._launcher = launcher
        self._workers: dict[Slot, _Worker] = {}

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
        """End the workers, whatever they train."""
        for worker in self._workers.values():
            worker.connection.close()
            worker.process.kill()  # nothing is lost: whatever a worker knew, it has already sent
        for worker in self._workers.values():
            worker.process.wait()
        self._workers.clear()

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots, in order."""
        return self._slots

    def idle(self) -> list[Slot]:
        """The slots that have nothing to train."""
        return [slot for slot in self._slots if slot not in self._workers or not self._workers[slot].pending]

    def submit(self, slot: Slot, bundle: Bundle) -> None:
        """Hand a bundle to the worker of an idle slot; a new worker starts there if the last one died."""
        worker = self._workers.get(slot) or self._start(slot)
        worker.pending = set(bundle.trials)
        with contextlib.suppress(OSError):  # it died just now: `events` will notice and name the trials
            worker.connection.send(bundle)

    def events(self, *, timeout_s: float) -> Iterator[Event]:
        """Yield what the workers said until nothing more is waiting; wait at most `timeout_s` for the first word."""
        by_connection = {worker.connection: worker for worker in self._workers.values()}
        for connection in wait(list(by_connection), timeout=timeout_s):
            worker = by_connection[connection]  # type: ignore[index]
            yield from self._drain(worker)

    def _drain(self, worker: _Worker) -> Iterator[Event]:
        try:
            while worker.connection.poll():
                message: Message = worker.connection.recv()
                if isinstance(message, Ready):
                    worker.ready = True
                elif isinstance(message, Finished):
                    worker.pending.discard(message.trial)
                yield message
        except (EOFError, OSError):
            yield self._bury(worker)

    def _bury(self, worker: _Worker) -> Died:
        worker.connection.close()
        worker.process.kill()
        code = worker.process.wait()
        del self._workers[worker.slot]
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        if not worker.ready:
            # It would die again: stop instead of starting workers for ever.
            raise BesomError(f"a worker {how} before it was ready; {_last_words(worker.log)}")
        return Died(
            trials=tuple(sorted(worker.pending)),
            reason=f"the worker (pid {worker.process.pid}) {how}; its log is {worker.log}",
        )

    def _start(self, slot: Slot) -> _Worker:
        log = self._logs / f"worker-{slot.index}.log"
        process, connection = self._launcher(slot, log)
        worker = _Worker(slot, process, connection, log)
        self._workers[slot] = worker
        return worker


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"its last words: {last}; more in {log}" if last else f"its log is in {log}"
