"""Measure the parent's time per trial (ask, compose, dispatch, tell) after 1,000 trials, and over 10,000 trials.

    python bench/parent.py [DONE] [ROW]

The workers answer at once over real pipes, without training; the study is the sweep of digits (TPE, conditional
parameters) on SQLite. Prints the processor time of the parent's main thread per trial, and its memory over ROW trials
with a random sampler. bench/recording.py measures the recorder, which has its own thread.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.digits import sweep_of_digits
from besom.sweep.loop import SweepLoop
from besom.sweep.progress.events import Ended, SweepEvent
from besom.tracking.recorder.recorder import Recorder
from besom.workers.messages import Assignment, Message
from besom.workers.pool import WorkerPool
from besom.workers.tasks import Training
from tests.fakes import FakeLauncher, completed, cpu_slots, started

MEASURED = 30


def answer(assignment: Assignment) -> Iterator[Message]:
    """Run a trial without training."""
    config = assignment.config
    yield started(assignment.trial)
    yield completed(assignment.trial, config["optimizer"]["lr"] * (1 + (config["model"].get("depth") or 0)))


class Meter:
    """An observer that notes the main thread's processor time and the memory when trials end."""

    def __init__(self) -> None:
        self.cpu_s: list[float] = []
        self.mib: list[float] = []

    def __call__(self, event: SweepEvent) -> None:
        """Note the time and the memory at the end of a trial."""
        if isinstance(event, Ended):
            self.cpu_s.append(time.thread_time())
            self.mib.append(resident_mib())


def resident_mib() -> float:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def sweep(folder: Path, trials: int, sampler: dict[str, str]) -> Meter:
    """Run a sweep of digits up to a number of trials."""
    meter = Meter()
    pool = WorkerPool(cpu_slots(2), Training(), logs=folder / "logs", launcher=FakeLauncher(answer))
    with sweep_of_digits(folder, trials, sampler=sampler) as digits, pool, Recorder(None, "digits") as recorder:
        SweepLoop(
            spec=digits.spec, book=digits.book, jobs=digits.jobs, pool=pool, recorder=recorder, observer=meter,
            scratch=folder / "scratch",
        ).run()  # fmt: skip
    return meter


def main(done: int, row: int) -> None:
    """Measure and print."""
    random = {"_target_": "optuna.samplers.RandomSampler"}
    with tempfile.TemporaryDirectory() as folder:
        sweep(Path(folder), done, random)
        times = sweep(Path(folder), done + MEASURED, {}).cpu_s
    print(f"with {done} trials done: {_per_trial_ms(times):.0f} ms of the parent's time a trial (TPE; limit 150)")
    with tempfile.TemporaryDirectory() as folder:
        meter = sweep(Path(folder), row, random)
    fifths = [f"{meter.mib[min(row * fifth // 5, row - 1)]:.0f}" for fifth in range(6)]
    print(f"{row} trials in a row: {', '.join(fifths)} MiB at every fifth; {_per_trial_ms(meter.cpu_s):.0f} ms a trial")


def _per_trial_ms(times_s: list[float]) -> float:
    # The mean, because two trials that end together share the work before them.
    return 1000 * (times_s[-1] - times_s[0]) / (len(times_s) - 1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:])) if len(sys.argv) == 3 else main(1000, 10_000)
