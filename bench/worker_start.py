"""Measure the time until workers are ready: two that import for themselves, two of a new fork server, one more of it.

    python bench/worker_start.py [ROUNDS]

Measures them in turn, with a warm file cache. Prints medians: seconds until all are ready, and seconds of processor
time, including the fork server's.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from besom.system.processes import start
from besom.workers.devices import Device, Slot
from besom.workers.fork_server import end_fork_server
from besom.workers.pool import Launcher, Process, WorkerPool, launch
from besom.workers.tasks import Task, Training

SLOTS = [Slot(index=index, devices=(Device(kind="cpu", name="a CPU"),)) for index in range(2)]


def afresh(slot: Slot, log: Path, task: Task) -> tuple[Process, Connection]:
    """Start a worker that imports for itself."""
    with log.open("ab") as output:
        return start("besom.workers.worker", environment={**os.environ, **slot.environment}, output=output)


def ready_s(slots: list[Slot], launcher: Launcher) -> float:
    """Return the seconds until the workers of a new pool are ready."""
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as logs,
        WorkerPool(slots, Training(), logs=Path(logs), launcher=launcher) as pool,
    ):
        while not all(map(pool.is_ready, slots)):
            list(pool.events(timeout_s=1.0))
        return time.monotonic() - began


def spent_s() -> float:
    """Return the processor time of the child processes that have ended, and of their children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main(rounds: int) -> None:
    """Measure and print."""
    ready: dict[str, list[float]] = {}
    spent: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        for slots in (SLOTS[:1], SLOTS):
            for kind, launcher in (("afresh", afresh), ("forked", launch)):
                name, before = f"{len(slots)} {kind}", spent_s()
                seconds = ready_s(slots, launcher)
                again = ready_s(SLOTS[:1], launcher) if kind == "forked" else None
                end_fork_server()
                if turn == 0:
                    continue  # the first round warms the cache
                ready.setdefault(name, []).append(seconds)
                spent.setdefault(name, []).append(spent_s() - before)
                if again is not None:
                    ready.setdefault("1 more of a running fork server", []).append(again)
    for name, seconds in ready.items():
        cost = f"{statistics.median(spent[name]):.2f} s of processor time" if name in spent else ""
        print(f"{name:<34} ready after {statistics.median(seconds):6.3f} s   {cost}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
