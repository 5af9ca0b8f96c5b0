"""Slots of one device and of two, and what is heard of the trials in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from besom.workers.devices import Device, Slot
from besom.workers.messages import Assignment, Bundle, Finished, Reported, TrialResult
from besom.workers.pool import Event, WorkerPool

CPU = Device(kind="cpu", name="a CPU")
ALONE, PAIR = Slot(index=0, devices=(CPU,)), Slot(index=1, devices=(CPU, CPU))


class Runs:
    """A pool and what was heard of its trials."""

    def __init__(self, pool: WorkerPool, folder: Path) -> None:
        self.pool = pool
        self.heard: list[Event] = []
        self._folder = folder
        self._trial = -1

    def submit(self, slot: Slot, config: dict[str, Any]) -> int:
        self._trial += 1
        directory = self._folder / f"trial-{self._trial}"
        directory.mkdir()
        self.pool.submit(slot, Bundle(assignments=(Assignment(trial=self._trial, directory=directory, config=config),)))
        return self._trial

    def listen(self, until: Callable[[Event], bool]) -> Any:
        """The first event, heard already or yet to come, that is waited for."""
        if found := [event for event in self.heard if until(event)]:
            return found[0]
        for _ in range(1200):
            new = list(self.pool.events(timeout_s=0.1))
            self.heard += new
            if found := [event for event in new if until(event)]:
                return found[0]
        raise AssertionError(f"never heard it, only {self.heard}")

    def finish(self, trial: int) -> TrialResult:
        finished: Finished = self.listen(lambda event: isinstance(event, Finished) and event.trial == trial)
        return finished.result

    def train(self, slot: Slot, config: dict[str, Any]) -> TrialResult:
        return self.finish(self.submit(slot, config))

    def epochs(self, trial: int) -> list[dict[str, float]]:
        told = [event for event in self.heard if isinstance(event, Reported) and event.trial == trial]
        assert [event.moment.epoch for event in told] == list(range(len(told))), (
            f"not in order, or not each once: {self.heard}"
        )
        return [dict(event.metrics) for event in told]

    def left(self, trial: int) -> set[str]:
        return {path.name for path in (self._folder / f"trial-{trial}").iterdir()}
