"""No process remains, whoever dies: the process table is looked at, and what a trial started is counted in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from besom.config.checks import resolved
from besom.sweep.trials.trial import for_slot
from besom.system.processes import session_members
from besom.workers.devices import Device, Slot
from besom.workers.messages import Assignment, Blame, Bundle, Finished, State
from besom.workers.pool import Died, Event, WorkerPool
from besom.workers.tasks import Training

CPU = Device(kind="cpu", name="a CPU")
SLOTS = {"a worker": Slot(index=0, devices=(CPU,)), "two ranks": Slot(index=1, devices=(CPU, CPU))}

OWN = """
import os, subprocess, sys, time, weakref
from pathlib import Path
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset
from besom.models import MLPClassifier

HERE = Path(__file__).parent
SLEEP = [sys.executable, "-c", "import time; time.sleep(3600)"]


class Loaded(pl.LightningDataModule):
    "Zeros, by two processes that load them."

    def train_dataloader(self):
        zeros = torch.zeros(64, 1)
        return DataLoader(TensorDataset(zeros, zeros), batch_size=8, num_workers=2, persistent_workers=True)


class Busy(pl.LightningModule):
    "Trains for ever, beside processes of its own: one in its group, one in another, and a fork of itself."

    def __init__(self):
        super().__init__()
        self.unit = torch.nn.Linear(1, 1)

    def on_train_start(self):
        subprocess.Popen(SLEEP)
        subprocess.Popen(SLEEP, process_group=0)
        if os.fork() == 0:
            time.sleep(3600)
            os._exit(0)

    def training_step(self, batch, _index):
        if self.current_epoch == 1:
            (HERE / f"busy-{os.getpid()}").touch()
        self.log("train/loss", 1.0)
        return (self.unit(batch[0]) - batch[1]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


greedy = weakref.WeakSet()


class Greedy(MLPClassifier):
    "Takes more memory than there is, as far as torch says."

    def on_train_start(self):
        self.big = torch.zeros(1000)
        greedy.add(self)
        greedy.add(self.big)
        try:
            self.try_first()
        except RuntimeError:
            local = torch.zeros(1000)
            greedy.add(local)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    def try_first(self):
        other = torch.zeros(1000)
        greedy.add(other)
        raise RuntimeError("CUDA error")


class Modest(MLPClassifier):
    "Trains only where nothing of the greedy one is left."

    def on_train_start(self):
        assert not list(greedy), f"{len(greedy)} are left"
"""

PARENT = """
import json, sys
from pathlib import Path
from besom.workers.devices import Device, Slot
from besom.workers.messages import Assignment, Bundle
from besom.workers.pool import WorkerPool
from besom.workers.tasks import Training

if __name__ == "__main__":
    folder, devices = Path(sys.argv[1]), int(sys.argv[2])
    config = json.loads((folder / "config.json").read_text())
    slot = Slot(index=0, devices=(Device(kind="cpu", name="a CPU"),) * devices)
    with WorkerPool([slot], Training(), logs=folder / "logs") as pool:
        pool.submit(slot, Bundle(assignments=(Assignment(trial=0, directory=folder, config=config),)))
        while True:
            list(pool.events(timeout_s=1.0))
"""


@pytest.fixture(autouse=True)
def _own(folder: Path) -> None:
    (folder / "own.py").write_text(OWN)
    (folder / "parent.py").write_text(PARENT)


@pytest.fixture
def busy(compose: Callable[..., DictConfig]) -> Callable[[Slot], dict[str, Any]]:
    """The config of a trial that never ends and starts processes."""

    def make(slot: Slot) -> dict[str, Any]:
        config = resolved(for_slot(compose("trainer.max_epochs=1000000", "objective=train/loss"), slot, test=False))
        return {**config, "data": {"_target_": "own.Loaded"}, "model": {"_target_": "own.Busy"}}

    return make


def eventually(look: Callable[[], Any]) -> Any:
    """Wait until `look` returns something, and return it."""
    end = time.monotonic() + 90
    while not (found := look()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    return found


def trainers(folder: Path, slot: Slot) -> list[int]:
    """The processes that train in a slot, once all of them have processes of their own."""
    marks = eventually(lambda: len(found := list(folder.glob("busy-*"))) == len(slot.devices) and found)
    return [int(mark.name.removeprefix("busy-")) for mark in marks]


def session_of(pid: int) -> int:
    """The session of a process, checked to hold at least the five processes that it started."""
    session = os.getsid(pid)
    assert len(list(session_members(session))) >= 6
    return session


def gone(session: int) -> bool:
    return not list(session_members(session))


def listen(pool: WorkerPool, until: Callable[[Event], bool]) -> Any:
    for _ in range(1200):
        for event in pool.events(timeout_s=0.1):
            if until(event):
                return event
    raise AssertionError("never heard it")


def assignment(folder: Path, trial: int, config: dict[str, Any]) -> Bundle:
    directory = folder / str(trial)
    directory.mkdir()
    return Bundle(assignments=(Assignment(trial=trial, directory=directory, config=config),))


@pytest.fixture(params=SLOTS)
def slot(request: pytest.FixtureRequest) -> Slot:
    return SLOTS[request.param]


@pytest.fixture
def pool(folder: Path, slot: Slot, busy: Callable[[Slot], dict[str, Any]]) -> Iterator[WorkerPool]:
    """A pool whose one slot is busy with trial 0."""
    with WorkerPool([slot], Training(), logs=folder / "logs") as pool:
        pool.submit(slot, assignment(folder, 0, busy(slot)))
        yield pool


def test_a_closed_pool_leaves_nothing(pool: WorkerPool, folder: Path, slot: Slot):
    session = session_of(trainers(folder, slot)[0])
    pool.close()
    eventually(lambda: gone(session))


def test_a_worker_that_is_killed_takes_along_what_it_started_and_its_death_is_noticed(
    pool: WorkerPool, folder: Path, slot: Slot
):
    head = session_of(trainers(folder, slot)[0])  # it leads the session
    os.kill(head, signal.SIGKILL)
    death = listen(pool, lambda event: isinstance(event, Died))
    assert death.trials == (0,)
    assert f"pid {head}" in death.reason
    eventually(lambda: gone(head))


@pytest.mark.parametrize("slot", ["two ranks"], indirect=True)
def test_a_rank_that_is_killed_takes_along_the_others_and_what_they_started(pool: WorkerPool, folder: Path, slot: Slot):
    ranks = trainers(folder, slot)
    head = session_of(ranks[0])
    before = set(session_members(head)) - {head}
    os.kill(ranks[1], signal.SIGKILL)
    end = listen(pool, lambda event: isinstance(event, Finished))
    assert end.result.state is State.FAIL
    assert f"(pid {ranks[1]}) was killed by SIGKILL" in end.result.failure.reason
    eventually(lambda: not before & set(session_members(head)))


def test_a_parent_that_is_killed_takes_along_all_there_is(
    folder: Path, slot: Slot, busy: Callable[[Slot], dict[str, Any]]
):
    (folder / "config.json").write_text(json.dumps(busy(slot)))
    parent = subprocess.Popen([sys.executable, str(folder / "parent.py"), str(folder), str(len(slot.devices))])
    try:
        session = session_of(trainers(folder, slot)[0])
    finally:
        parent.kill()
        parent.wait()
    eventually(lambda: gone(session))


@pytest.mark.parametrize("slot", ["a worker"], indirect=True)
def test_a_trial_without_memory_leaves_none_of_it_to_the_worker_that_goes_on(
    folder: Path, slot: Slot, compose: Callable[..., DictConfig]
):
    small = resolved(for_slot(compose("trainer.max_epochs=1", "model.width=8"), slot, test=False))
    greedy, modest = (
        {**small, "model": {**small["model"], "_target_": f"own.{name}"}} for name in ("Greedy", "Modest")
    )
    with WorkerPool([slot], Training(), logs=folder / "logs") as pool:
        pool.submit(slot, assignment(folder, 0, greedy))
        end = listen(pool, lambda event: isinstance(event, Finished))
        assert (end.result.state, end.result.failure.blame) == (State.FAIL, Blame.MEMORY)
        assert end.result.failure.reason.startswith("OutOfMemoryError: CUDA out of memory")
        pool.submit(slot, assignment(folder, 1, modest))
        # The same worker: another one would know of no greedy trial, and a death would be heard of.
        end = listen(pool, lambda event: isinstance(event, Finished | Died))
        assert isinstance(end, Finished)
        assert end.result.state is State.COMPLETE, end.result
