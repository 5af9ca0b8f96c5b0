"""Retries of failed trials, and replaced workers."""

from __future__ import annotations

import time
from collections.abc import Iterator

from besom.sweep.progress.events import Dispatched, Ended, Retried, SweepEvent
from besom.workers.devices import Device, Slot
from besom.workers.messages import Assignment, Blame, Message
from tests.fakes import (
    ListeningObserver,
    completed,
    crashing,
    failed,
    failing,
    finishing,
    started,
)
from tests.sweep.sweeps import Sweep, by_trial, stuck


def test_a_trial_that_failed_is_tried_again_with_the_same_parameters(sweep: Sweep):
    seen: list[float] = []

    def third_time_lucky(assignment: Assignment) -> Iterator[Message]:
        seen.append(assignment.config["optimizer"]["lr"])
        yield from (crashing, failing, finishing)[len(seen) - 1](assignment)

    observer = sweep.run(third_time_lucky, slots=1, n_trials=1, retries=2)
    assert len(set(seen)) == 1
    assert observer.attempts == [(0, 0), (0, 1), (0, 2)]
    assert sweep.states() == ["COMPLETE"]
    assert sweep.study.trials[0].user_attrs["besom"]["attempts"] == 3
    first, second, third = sweep.all_runs()
    assert [run.info.status for run in (first, second, third)] == ["FAILED", "FAILED", "FINISHED"]
    assert [run.data.tags["besom.state"] for run in (first, second, third)] == ["RETRIED", "RETRIED", "COMPLETE"]
    assert "besom.first_run" not in first.data.tags
    assert {run.data.tags["besom.first_run"] for run in (second, third)} == {first.info.run_id}
    assert third.info.run_name == "digits-0-retry-2"


def test_retries_end_and_a_mistake_of_the_config_is_not_tried_again(sweep: Sweep):
    def mistaken(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield failed(assignment.trial, "optimizer.lr: no such rate", blame=Blame.USER)

    observer = sweep.run(by_trial({1: mistaken}, otherwise=failing), slots=1, n_trials=2, retries=1)
    assert sweep.states() == ["FAIL", "FAIL"]
    assert observer.attempts == [(0, 0), (0, 1), (1, 0)]


def test_a_trial_that_needs_its_device_alone_keeps_it_and_all_its_retries(sweep: Sweep):
    fates = iter(["memory", "code", "code"])
    running: set[int] = set()

    def watch(event: SweepEvent) -> None:
        match event:
            case Dispatched(trial=trial, attempt=attempt):
                assert not attempt or not running
                running.add(trial)
            case Retried(trial=trial) | Ended(trial=trial):
                running.discard(trial)

    def unlucky(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        fate = next(fates, None)
        yield completed(assignment.trial, 0.5) if fate is None else failed(assignment.trial, fate, blame=Blame(fate))

    def slow(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        time.sleep(0.02)
        yield completed(assignment.trial, 0.5)

    observer = sweep.run(
        by_trial({0: unlucky}, otherwise=slow), n_trials=6, retries=2, observer=ListeningObserver(on_event=watch)
    )
    assert sweep.states() == ["COMPLETE"] * 6
    assert [attempt for trial, attempt in observer.attempts if trial == 0] == [0, 1, 2, 3]


def test_a_trial_that_ran_out_of_memory_is_tried_again_alone_on_its_device(sweep: Sweep):
    gpus = [Device(kind="gpu", name="a GPU", index=index) for index in "01"]
    sweep.slots = [Slot(index=index, devices=(gpus[index // 2],)) for index in range(4)]
    running: dict[int, str] = {}  # trials by their device
    lonely: dict[str, int] = {}

    def watch(event: SweepEvent) -> None:
        match event:
            case Dispatched(trial=trial, slot=slot, attempt=attempt):
                device = slot.device.index
                assert device not in lonely
                if attempt:
                    assert device not in running.values()
                    lonely[device] = trial
                running[trial] = device
            case Retried(trial=trial):
                del running[trial]
            case Ended(trial=trial):
                device = running.pop(trial)
                if lonely.get(device) == trial:
                    del lonely[device]

    greedy: dict[int, int] = {}

    def hungry(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        greedy[assignment.trial] = greedy.get(assignment.trial, 0) + 1
        if greedy[assignment.trial] == 1:
            yield failed(assignment.trial, "OutOfMemoryError: 80 GiB", blame=Blame.MEMORY)
        else:
            time.sleep(0.05)
            yield completed(assignment.trial, 0.5)

    observer = sweep.run(by_trial({1: hungry, 4: hungry}), n_trials=9, observer=ListeningObserver(on_event=watch))
    assert sweep.states() == ["COMPLETE"] * 9
    assert {(1, 1), (4, 1)} <= set(observer.attempts)
    assert len(observer.attempts) == 11


def test_a_trial_that_has_no_memory_alone_either_has_failed(sweep: Sweep):
    def too_large(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield failed(assignment.trial, "OutOfMemoryError: 80 GiB", blame=Blame.MEMORY)

    observer = sweep.run(too_large, slots=2, n_trials=2)
    assert sweep.states() == ["FAIL", "FAIL"]
    assert sorted(observer.attempts) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_trial_that_takes_too_long_fails_and_its_slot_gets_a_new_worker(sweep: Sweep):
    observer = sweep.run(by_trial({0: stuck}), slots=1, n_trials=2, trial_timeout_s=0.3)
    assert sweep.states() == ["FAIL", "COMPLETE"]
    assert "trial_timeout, 0.3 s" in str(observer.reasons[0])
    assert len(sweep.launcher.launched) == 2


def test_a_worker_is_replaced_after_as_many_trials_as_it_may_run(sweep: Sweep):
    sweep.run(finishing, slots=1, n_trials=5, max_trials_per_worker=2)
    assert sweep.states() == ["COMPLETE"] * 5
    assert len(sweep.launcher.launched) == 3
