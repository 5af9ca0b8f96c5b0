from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from omegaconf import DictConfig

from besom.config.checks import resolved
from besom.errors import BesomError
from besom.workers.devices import Slot
from besom.workers.messages import Assignment, Blame, Bundle, Finished, Message, Ready, Reported, Sized, Started, State
from besom.workers.pool import Died, Event, Process, WorkerPool, launch
from besom.workers.tasks import Task, Training
from tests.fakes import Crash, FakeLauncher, completed, cpu_slots, reported, started


def bundle(*trials: int) -> Bundle:
    return Bundle(assignments=tuple(Assignment(trial=trial, config={}, directory=Path()) for trial in trials))


def listen(pool: WorkerPool, *, until: Callable[[Event], bool]) -> list[Event]:
    """Return the workers' messages up to a certain one."""
    heard: list[Event] = []
    for _ in range(600):
        for event in pool.events(timeout_s=0.1):
            heard.append(event)
            if until(event):
                return heard
    raise AssertionError(f"never heard it, only {heard}")


def finished(trial: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Finished) and event.trial == trial


def died(event: Event) -> bool:
    return isinstance(event, Died)


def talking(assignment: Assignment) -> Iterator[Message]:
    yield started(assignment.trial)
    yield reported(assignment.trial, 0, val_acc=0.5)
    if assignment.trial == 13:
        raise Crash
    yield completed(assignment.trial, 0.5)


def test_a_slot_is_idle_until_it_has_a_bundle_and_again_once_all_its_trials_are_over(tmp_path: Path):
    slot, other = slots = cpu_slots(2)
    with WorkerPool(slots, Training(), logs=tmp_path / "logs", launcher=FakeLauncher(talking)) as pool:
        assert pool.idle() == slots
        pool.submit(slot, bundle(1, 2))
        assert pool.idle() == [other]
        listen(pool, until=finished(1))
        assert pool.idle() == [other]
        listen(pool, until=finished(2))
        assert pool.idle() == slots


def test_messages_come_in_the_order_they_were_sent(tmp_path: Path):
    (slot,) = slots = cpu_slots(1)
    with WorkerPool(slots, Training(), logs=tmp_path, launcher=FakeLauncher(talking)) as pool:
        pool.submit(slot, bundle(1, 2))
        heard = listen(pool, until=finished(2))
    kinds = [type(event) for event in heard]
    assert kinds == [Ready, Started, Reported, Finished, Started, Reported, Finished]


def test_a_worker_that_dies_names_the_trials_that_were_not_over_and_its_slot_can_be_used_again(tmp_path: Path):
    (slot,) = slots = cpu_slots(1)
    launcher = FakeLauncher(talking)
    with WorkerPool(slots, Training(), logs=tmp_path, launcher=launcher) as pool:
        pool.submit(slot, bundle(1, 13, 14))
        death = listen(pool, until=died)[-1]
        assert isinstance(death, Died)
        assert death.trials == (13, 14)
        assert "killed by SIGKILL" in death.reason
        assert str(tmp_path / "worker-0.log") in death.reason
        assert pool.idle() == slots
        pool.submit(slot, bundle(15))
        assert listen(pool, until=finished(15))
    assert launcher.launched == [slot, slot]


def test_a_worker_that_is_killed_before_it_is_ready_gets_a_successor_with_its_bundle(tmp_path: Path):
    """Its trials have not begun, and lose nothing."""
    startup_deaths, healthy = FakeLauncher(talking, ready=False), FakeLauncher(talking)

    def launcher(slot: Slot, log: Path, task: Task) -> tuple[Process, Connection]:
        return (healthy if startup_deaths.launched else startup_deaths)(slot, log, task)

    (slot,) = slots = cpu_slots(1)
    with WorkerPool(slots, Training(), logs=tmp_path, launcher=launcher) as pool:
        pool.submit(slot, bundle(1, 2))
        heard = listen(pool, until=finished(2))
        assert pool.idle() == slots
    assert [type(event) for event in heard] == [Ready, Started, Reported, Finished, Started, Reported, Finished]
    assert healthy.launched == [slot]


def test_the_successor_of_a_worker_that_was_never_ready_hears_what_was_told_to_stop(tmp_path: Path):
    def endless(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        for epoch in range(100):
            yield reported(assignment.trial, epoch, val_acc=0.5)
            time.sleep(0.01)
        yield completed(assignment.trial, 0.5)

    startup_deaths, healthy = FakeLauncher(endless, ready=False), FakeLauncher(endless)

    def launcher(slot: Slot, log: Path, task: Task) -> tuple[Process, Connection]:
        return (healthy if startup_deaths.launched else startup_deaths)(slot, log, task)

    (slot,) = slots = cpu_slots(1)
    with WorkerPool(slots, Training(), logs=tmp_path, launcher=launcher) as pool:
        pool.submit(slot, bundle(1))
        pool.stop(slot, 1, at_once=False)
        end = listen(pool, until=finished(1))[-1]
    assert isinstance(end, Finished)
    assert end.result.state is State.PRUNED


def test_workers_that_die_before_they_are_ready_are_not_started_for_ever(tmp_path: Path):
    launcher = FakeLauncher(talking, ready=False)
    with (
        pytest.raises(BesomError, match=r"before it was ready; .*worker-0\.log"),
        WorkerPool(cpu_slots(1), Training(), logs=tmp_path, launcher=launcher) as pool,
    ):
        listen(pool, until=died)
    assert launcher.launched


def test_a_trial_that_is_told_to_stop_ends_and_its_worker_goes_on(tmp_path: Path):
    def endless(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        while assignment.trial == 1:
            yield reported(assignment.trial, 0, val_acc=0.5)
            time.sleep(0.01)
        yield completed(assignment.trial, 0.5)

    (slot,) = slots = cpu_slots(1)
    launcher = FakeLauncher(endless)
    with WorkerPool(slots, Training(), logs=tmp_path, launcher=launcher) as pool:
        pool.submit(slot, bundle(1, 2))
        listen(pool, until=lambda event: isinstance(event, Reported))
        pool.stop(slot, 1, at_once=True)
        heard = listen(pool, until=finished(2))
    ends = {event.trial: event.result.state for event in heard if isinstance(event, Finished)}
    assert ends == {1: State.PRUNED, 2: State.COMPLETE}
    assert launcher.launched == [slot]


def test_a_slot_that_is_made_anew_says_nothing_more_of_what_ran_there(tmp_path: Path):
    def stuck(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        if assignment.trial == 1:
            threading.Event().wait(5)
        yield completed(assignment.trial, 0.5)

    (slot,) = slots = cpu_slots(1)
    launcher = FakeLauncher(stuck)
    with WorkerPool(slots, Training(), logs=tmp_path, launcher=launcher) as pool:
        assert not pool.is_ready(slot)
        pool.submit(slot, bundle(1))
        listen(pool, until=lambda event: isinstance(event, Started))
        assert pool.is_ready(slot)
        pool.replace(slot)
        assert not pool.is_ready(slot)
        assert pool.idle() == slots
        pool.submit(slot, bundle(2))
        heard = listen(pool, until=finished(2))
    assert [type(event) for event in heard] == [Ready, Started, Finished]
    assert launcher.launched == [slot, slot]


def test_a_worker_gets_a_successor_after_as_many_trials_as_it_may_run(tmp_path: Path):
    (slot,) = slots = cpu_slots(1)
    launcher = FakeLauncher(talking)
    with WorkerPool(slots, Training(), logs=tmp_path, launcher=launcher, max_trials=2) as pool:
        started_for = []
        for trial in range(5):
            pool.submit(slot, bundle(trial))
            listen(pool, until=finished(trial))
            started_for.append(len(launcher.launched))
    assert started_for == [1, 1, 2, 2, 3]


OWN = """
import os
from besom.models import MLPClassifier

class Broken(MLPClassifier):
    def on_train_start(self):
        print("about to divide")
        1 / 0

class Quitter(MLPClassifier):
    def on_train_start(self):
        print("about to quit")
        os._exit(3)
"""


def test_a_real_worker_trains_bundle_after_bundle_and_tells_how_each_trial_went(
    tmp_path: Path, folder: Path, compose: Callable[..., DictConfig]
):
    (folder / "own.py").write_text(OWN)

    def assignment(trial: int, *overrides: str) -> Assignment:
        directory = tmp_path / str(trial)
        directory.mkdir()
        config = resolved(compose("trainer.max_epochs=1", "threads=1", "model.width=8", *overrides))
        return Assignment(trial=trial, config=config, directory=directory)

    (slot,) = slots = cpu_slots(1)
    with WorkerPool(slots, Training(), logs=tmp_path) as pool:
        good, wrong = assignment(0), assignment(1, "objective=val/nonsense")
        broken = assignment(2, "model._target_=own.Broken")
        torn = assignment(4, "data=csv", f"data.source.path={folder}/own.py", "data.source.target=price")
        pool.submit(slot, Bundle(assignments=(good, wrong, torn, broken)))
        heard = listen(pool, until=finished(2))
        told = {event.trial: event.result for event in heard if isinstance(event, Finished)}
        epochs = [event.moment.epoch for event in heard if isinstance(event, Reported) and event.trial == 0]
        (begun,) = [event for event in heard if isinstance(event, Started) and event.trial == 0]

        quitter = assignment(3, "model._target_=own.Quitter")
        pool.submit(slot, Bundle(assignments=(quitter,)))
        death = listen(pool, until=died)[-1]

    assert isinstance(heard[0], Ready)
    assert epochs == [0, 1]
    assert (begun.about["data"], begun.about["threads"]) == ("digits", 1)
    assert told[0].state is State.COMPLETE
    assert told[0].best_epoch == 1
    assert len(told[0].values) == 1
    assert (good.directory / "model.safetensors").exists()

    failures = {trial: result.failure for trial, result in told.items() if result.failure is not None}
    assert failures.keys() == {1, 2, 4}
    assert all(told[trial].state is State.FAIL for trial in failures)
    assert failures[1].blame is Blame.USER
    assert "val/nonsense" in failures[1].reason

    assert failures[4].blame is Blame.DATA
    assert str(folder) in failures[4].reason
    assert "\n" not in failures[4].reason

    assert failures[2].blame is Blame.CODE
    assert failures[2].reason == "ZeroDivisionError: division by zero"
    assert "own.py" in (failures[2].traceback or "")

    assert isinstance(death, Died)
    assert death.trials == (3,)
    assert "exited with code 3" in death.reason
    assert "about to divide" in (tmp_path / "worker-0.log").read_text()


def test_a_real_worker_says_how_many_of_a_bundle_train_at_once_before_they_begin(
    tmp_path: Path, compose: Callable[..., DictConfig]
):
    config = resolved(compose("trainer.max_epochs=1", "threads=1", "model.width=8"))
    trials = [Assignment(trial=trial, config=config, directory=tmp_path / str(trial)) for trial in range(3)]
    for trial in trials:
        trial.directory.mkdir()
    (slot,) = slots = cpu_slots(1)
    with WorkerPool(slots, Training(), logs=tmp_path) as pool:
        pool.submit(slot, Bundle(assignments=tuple(trials), auto=True))
        heard = listen(pool, until=lambda event: isinstance(event, Finished) and slot in pool.idle())
    ready, told, *rest = heard
    assert isinstance(ready, Ready)
    assert isinstance(told, Sized)
    assert (told.trial, told.of) == (0, 3)
    assert 1 <= told.members <= 3
    shared = [event.about.get("bundle", 1) for event in rest if isinstance(event, Started)]
    assert len(shared) == 3
    assert max(shared) <= told.members
    ends = [event for event in rest if isinstance(event, Finished)]
    assert sorted(end.trial for end in ends) == [0, 1, 2]
    assert all(end.result.state is State.COMPLETE for end in ends)


def test_real_workers_are_gone_when_the_block_ends(tmp_path: Path, folder: Path):
    processes: list[Process] = []

    def remembering(slot: Slot, log: Path, task: Task) -> tuple[Process, Connection]:
        process, connection = launch(slot, log, task)
        processes.append(process)
        return process, connection

    slots = cpu_slots(2)
    with WorkerPool(slots, Training(), logs=tmp_path, launcher=remembering) as pool:
        listen(pool, until=lambda _: all(map(pool.is_ready, slots)))
        pids = [process.pid for process in processes]
        assert len(set(pids)) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
