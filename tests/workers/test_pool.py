from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from omegaconf import DictConfig

from besom.config import resolved
from besom.errors import BesomError
from besom.workers.devices import Slot
from besom.workers.messages import Assignment, Bundle, Finished, Message, Ready, Reported, Started, State
from besom.workers.pool import Died, Event, Process, WorkerPool, launch
from tests.fakes import Crash, FakeLauncher, completed, cpu_slots, reported, started


def bundle(*trials: int) -> Bundle:
    return Bundle(assignments=tuple(Assignment(trial=trial, config={}, directory=Path()) for trial in trials))


def listen(pool: WorkerPool, *, until: Callable[[Event], bool]) -> list[Event]:
    """What the workers say, up to a certain word."""
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
    with WorkerPool(slots, logs=tmp_path / "logs", launcher=FakeLauncher(talking)) as pool:
        assert pool.idle() == slots
        pool.submit(slot, bundle(1, 2))
        assert pool.idle() == [other]
        listen(pool, until=finished(1))
        assert pool.idle() == [other]
        listen(pool, until=finished(2))
        assert pool.idle() == slots


def test_messages_come_in_the_order_they_were_sent(tmp_path: Path):
    (slot,) = slots = cpu_slots(1)
    with WorkerPool(slots, logs=tmp_path, launcher=FakeLauncher(talking)) as pool:
        pool.submit(slot, bundle(1, 2))
        heard = listen(pool, until=finished(2))
    kinds = [type(event) for event in heard]
    assert kinds == [Ready, Started, Reported, Finished, Started, Reported, Finished]


def test_a_worker_that_dies_names_the_trials_that_were_not_over_and_its_slot_can_be_used_again(tmp_path: Path):
    (slot,) = slots = cpu_slots(1)
    launcher = FakeLauncher(talking)
    with WorkerPool(slots, logs=tmp_path, launcher=launcher) as pool:
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


def test_a_worker_that_dies_before_it_is_ready_is_not_started_again(tmp_path: Path):
    launcher = FakeLauncher(talking, ready=False)
    with (
        pytest.raises(BesomError, match=r"before it was ready; .*worker-0\.log"),
        WorkerPool(cpu_slots(1), logs=tmp_path, launcher=launcher) as pool,
    ):
        listen(pool, until=died)
    assert len(launcher.launched) == 1


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
    tmp_path: Path, compose: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def assignment(trial: int, *overrides: str) -> Assignment:
        directory = tmp_path / str(trial)
        directory.mkdir()
        config = resolved(compose("trainer.max_epochs=1", "threads=1", "model.width=8", *overrides))
        return Assignment(trial=trial, config=config, directory=directory)

    (slot,) = slots = cpu_slots(1)
    with WorkerPool(slots, logs=tmp_path) as pool:
        good, wrong = assignment(0), assignment(1, "objective=val/nonsense")
        broken = assignment(2, "model._target_=own.Broken")
        torn = assignment(4, "data=csv", f"data.source.path={tmp_path}/own.py", "data.source.target=price")
        pool.submit(slot, Bundle(assignments=(good, wrong, torn, broken)))
        heard = listen(pool, until=finished(2))
        told = {event.trial: event for event in heard if isinstance(event, Finished)}
        epochs = [event.epoch for event in heard if isinstance(event, Reported) and event.trial == 0]
        (begun,) = [event for event in heard if isinstance(event, Started) and event.trial == 0]

        quitter = assignment(3, "model._target_=own.Quitter")
        pool.submit(slot, Bundle(assignments=(quitter,)))
        death = listen(pool, until=died)[-1]

    assert isinstance(heard[0], Ready)
    assert epochs == [0, 1]
    assert (begun.about["data"], begun.about["threads"]) == ("digits", 1)
    assert (told[0].state, told[0].best_epoch) == (State.COMPLETE, 1)
    assert (good.directory / "model.safetensors").exists()

    assert (told[1].state, told[1].user_error) == (State.FAIL, True)
    assert "val/nonsense" in (told[1].reason or "")

    assert (told[4].state, told[4].user_error) == (State.FAIL, True)
    assert str(tmp_path) in (told[4].reason or "")
    assert "\n" not in (told[4].reason or "")

    assert (told[2].state, told[2].user_error) == (State.FAIL, False)
    assert told[2].reason == "ZeroDivisionError: division by zero"
    assert "own.py" in (told[2].traceback or "")

    assert isinstance(death, Died)
    assert death.trials == (3,)
    assert "exited with code 3" in death.reason
    assert "about to divide" in (tmp_path / "worker-0.log").read_text()


def test_real_workers_are_gone_when_the_block_ends(tmp_path: Path):
    processes: list[Process] = []

    def remembering(slot: Slot, log: Path) -> tuple[Process, Connection]:
        process, connection = launch(slot, log)
        processes.append(process)
        return process, connection

    with WorkerPool(cpu_slots(2), logs=tmp_path, launcher=remembering):
        assert len(processes) == 2
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)
