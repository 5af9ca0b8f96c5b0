"""Measure the utilisation of four slots: trials of log-normal duration, started one by one, and in blocking batches.

    PYTHONPATH=. python bench/utilisation.py [TRIALS]

The trials are those of the sweep of digits, asked, composed, recorded and told as usual, in real worker processes that
only wait, so that four slots do not need four cores. The ideal is the sum of the durations divided by four. Prints the
time from the start of the first trial to the end of the last one, relative to the ideal, for a sweep and for the same
trials in batches of four.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.digits import sweep_of_digits
from besom.sweep.loop import SweepLoop
from besom.tracking.recorder.recorder import Recorder
from besom.tracking.store import Location
from besom.training.progress import Channel
from besom.training.result import TrialResult
from besom.workers.devices import Device, Slot
from besom.workers.messages import Assignment, Ready
from besom.workers.pool import WorkerPool
from besom.workers.tasks import Run

SLOTS, MEDIAN_S, SIGMA = 4, 1.0, 0.8


@dataclass(frozen=True)
class Waiting:
    """A task that waits, and notes when it started and ended."""

    durations_s: tuple[float, ...]
    times: Path

    def load(self) -> Run:
        """Return the run; there is nothing to import."""

        def run(assignment: Assignment, channel: Channel) -> TrialResult:
            began = time.monotonic()
            channel.started({})
            time.sleep(self.durations_s[assignment.trial])
            with self.times.open("a", encoding="utf-8") as file:
                file.write(f"{began} {time.monotonic()}\n")
            return TrialResult(values=(float(assignment.trial),))

        return run


class Batches:
    """A pool whose slots are idle only when all of them are, like a sweeper that launches batches."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def idle(self) -> list[Slot]:
        """Return all slots or none."""
        idle = self._pool.idle()
        return idle if len(idle) == len(self._pool.slots) else []

    def __getattr__(self, name: str) -> object:
        return getattr(self._pool, name)


def total_s(task: Waiting, *, batches: bool) -> float:
    """Return the seconds from the start of the first trial to the end of the last one."""
    folder = task.times.parent
    slots = [Slot(index=index, devices=(Device(kind="cpu", name="cpu"),)) for index in range(SLOTS)]
    location = Location.of({"uri": None, "directory": folder})
    with (
        sweep_of_digits(folder, len(task.durations_s)) as digits,
        Recorder(location, "bench") as recorder,
        WorkerPool(slots, task, logs=folder / "logs") as pool,
    ):
        recorder.open_study("bench", token="bench", tags={}, note="")
        _wait_until_ready(pool)
        SweepLoop(
            spec=digits.spec, book=digits.book, jobs=digits.jobs, pool=Batches(pool) if batches else pool,
            recorder=recorder, observer=lambda event: None, scratch=folder / "scratch",
        ).run()  # fmt: skip
    times = np.loadtxt(task.times)
    return float(times[:, 1].max() - times[:, 0].min())


def _wait_until_ready(pool: WorkerPool) -> None:
    while not all(pool.is_ready(slot) for slot in pool.slots):
        for event in pool.events(timeout_s=0.1):
            assert isinstance(event, Ready)


def main(trials: int) -> None:
    """Measure and print."""
    from bench.utilisation import Waiting  # by the name by which a worker can import it

    durations = np.random.default_rng(0).lognormal(np.log(MEDIAN_S), SIGMA, trials)
    ideal = durations.sum() / SLOTS
    print(f"{trials} trials of {durations.min():.2f} to {durations.max():.2f} s in {SLOTS} slots: ideal {ideal:.1f} s")
    for name, batches in (("a sweep", False), ("the same in blocking batches", True)):
        with tempfile.TemporaryDirectory() as folder:
            took = total_s(Waiting(tuple(map(float, durations)), Path(folder) / "times"), batches=batches)
        print(f"{name}: {took:.1f} s, {took / ideal:.2f} times the ideal")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 160)
