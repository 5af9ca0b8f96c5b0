"""Bundles: which trials share one, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from besom.sweep.progress.log import SweepLog
from besom.sweep.spec import SweepSpec
from besom.workers.devices import Device, Slot
from besom.workers.messages import Assignment, Blame, Message, Sized
from tests.fakes import ListeningObserver, Play, completed, cpu_slots, crashing, failed, finishing, reported, started
from tests.sweep.specs import members_of
from tests.sweep.sweeps import MEDIAN, Sweep, by_trial

RANDOM = {"_target_": "optuna.samplers.RandomSampler"}


def test_trials_share_a_slot_as_many_as_the_bundle_holds(sweep: Sweep):
    sweep.run(finishing, slots=1, n_trials=8, bundle=3)
    assert sweep.states() == ["COMPLETE"] * 8
    assert sweep.launcher.bundles == [(0, 1, 2), (3, 4, 5), (6, 7)]


def test_without_bundles_each_trial_trains_by_itself(sweep: Sweep):
    sweep.run(finishing, slots=1, n_trials=4)
    assert sweep.launcher.bundles == [(0,), (1,), (2,), (3,)]


def test_only_trials_that_fit_share_a_bundle_and_none_is_left_behind(sweep: Sweep):
    sweep.params = {"data.batch_size": "choice(32, 64)", "optimizer.lr": "interval(0.001, 0.1)"}
    sweep.run(finishing, slots=1, n_trials=12, bundle=4, sampler={"_target_": "optuna.samplers.RandomSampler"})
    sizes = {trial.number: trial.params["data.batch_size"] for trial in sweep.study.trials}
    assert all(len({sizes[trial] for trial in bundle}) == 1 for bundle in sweep.launcher.bundles)
    assert sorted(trial for bundle in sweep.launcher.bundles for trial in bundle) == list(range(12))
    assert max(map(len, sweep.launcher.bundles)) == 4


def test_a_trial_that_fits_nobody_trains_alone(sweep: Sweep):
    sweep.params = {"+trainer.limit_train_batches": "choice(1, 2)", "optimizer.lr": "interval(0.001, 0.1)"}
    sweep.run(finishing, slots=1, n_trials=3, bundle=3)
    assert sweep.launcher.bundles == [(0,), (1,), (2,)]


def test_a_bundle_whose_worker_dies_is_run_again_trial_by_trial_and_costs_none_of_the_others(sweep: Sweep):
    attempts: list[int] = []

    def play(assignment: Assignment) -> Iterator[Message]:
        attempts.append(assignment.trial)
        yield from (crashing if assignment.trial == 1 else finishing)(assignment)

    observer = sweep.run(play, slots=1, n_trials=4, bundle=4)
    assert sweep.states() == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert sweep.launcher.bundles == [(0, 1, 2, 3), (1,), (2,), (3,)]
    assert observer.attempts == [(0, 0), (1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (3, 1)]
    states = [(run.data.tags["besom.trial"], run.data.tags["besom.state"]) for run in sweep.all_runs()]
    assert states.count(("1", "RETRIED")) == states.count(("1", "FAIL")) == 1


def test_the_second_chance_of_a_bundle_is_none_of_the_retries(sweep: Sweep):
    sweep.run(by_trial({0: crashing}), slots=1, n_trials=2, bundle=2, retries=1)
    assert sweep.states() == ["FAIL", "COMPLETE"]
    assert sweep.launcher.bundles == [(0, 1), (0,), (1,), (0,)]


def test_a_bundle_without_memory_is_run_again_trial_by_trial(sweep: Sweep):
    def play(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        if len(sweep.launcher.bundles[-1]) > 1:
            yield failed(assignment.trial, "OutOfMemoryError: CUDA out of memory.", blame=Blame.MEMORY)
        else:
            yield completed(assignment.trial, 0.5)

    sweep.run(play, slots=1, n_trials=3, bundle=3)
    assert sweep.states() == ["COMPLETE"] * 3
    assert len(sweep.launcher.launched) == 1, "the worker itself is well"


def test_a_lane_that_fails_by_its_own_config_is_not_run_again(sweep: Sweep):
    def wrong(assignment: Assignment) -> Iterator[Message]:
        yield failed(assignment.trial, "model.dropout: 2 is not in 0 <= p < 1", blame=Blame.USER)

    sweep.run(by_trial({1: wrong}), slots=1, n_trials=3, bundle=3)
    assert sweep.states() == ["COMPLETE", "FAIL", "COMPLETE"]
    assert sweep.launcher.bundles == [(0, 1, 2)]


def test_a_lane_that_is_pruned_leaves_the_others(sweep: Sweep):
    def play(assignment: Assignment) -> Iterator[Message]:
        trial = assignment.trial
        yield started(trial)
        for epoch in range(1, 4):
            yield reported(trial, epoch, val_acc=1 / (trial + 1))
        yield completed(trial, 1 / (trial + 1))

    observer = sweep.run(play, slots=1, n_trials=4, bundle=2, pruner=MEDIAN)
    assert len(observer.states) == 4
    assert "PRUNED" in sweep.states()
    assert sweep.states()[0] == "COMPLETE"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    total=st.integers(1, 12), members=st.integers(1, 5), slots=st.integers(1, 3), crashes=st.sets(st.integers(0, 11))
)
def test_whatever_shares_a_bundle_every_trial_is_there_once(
    untracked_sweep: Callable[[], Sweep], total: int, members: int, slots: int, crashes: set[int]
):
    sweep = untracked_sweep()
    sweep.run(by_trial(dict.fromkeys(crashes, crashing)), slots=slots, n_trials=total, bundle=members)
    assert sweep.states() == ["FAIL" if trial in crashes else "COMPLETE" for trial in range(total)]


# The size.


@pytest.mark.parametrize(
    ("keys", "slots", "members"),
    [
        ({"bundle": "off"}, 1, 1),
        ({"bundle": 5}, 1, 5),
        ({"bundle": 5, "n_trials": 6}, 4, 5),
        ({"bundle": "auto", "n_trials": 1000}, 2, 8),
        ({"bundle": "auto", "n_trials": 1000, "sampler": {"_target_": "optuna.samplers.GPSampler"}}, 2, 8),
        ({"bundle": "auto", "n_trials": 1000, "sampler": RANDOM}, 2, 64),
        ({"bundle": "auto", "n_trials": 120, "sampler": RANDOM}, 2, 10),
        ({"bundle": "auto", "n_trials": None, "sampler": {"_target_": "optuna.samplers.QMCSampler"}}, 2, 64),
        ({"bundle": "auto", "n_trials": 12}, 2, 1),
        ({"bundle": "auto", "n_trials": 60}, 2, 5),
        ({"bundle": "auto", "n_trials": None}, 2, 8),
        ({"bundle": "auto", "n_trials": 1000, "trial_timeout_s": 60.0}, 2, 1),
        ({"bundle": 5, "per_trial": 2}, 1, 1),
        ({"bundle": "auto", "n_trials": 1000, "max_trials_per_worker": 3}, 2, 3),
    ],
)
def test_a_bundle_is_as_large_as_asked_or_leaves_the_sampler_something_to_learn_from(
    make_spec: Callable[..., SweepSpec], keys: dict[str, Any], slots: int, members: int
):
    assert members_of(make_spec(**keys), cpu_slots(slots)) == members


def test_a_gpu_bears_more_than_a_processor(make_spec: Callable[..., SweepSpec]):
    gpus = [Slot(index=index, devices=(Device(kind="gpu", name="a GPU", index=str(index)),)) for index in range(2)]
    assert members_of(make_spec(bundle="auto", n_trials=1000), gpus) == 64
    assert members_of(make_spec(bundle="auto", n_trials=60), gpus) == 5


# The size that a worker measures.


def sizing(sweep: Sweep, most: int) -> Play:
    """Return a play whose worker trains at most this many trials of a bundle at once."""

    def play(assignment: Assignment) -> Iterator[Message]:
        trial = assignment.trial
        of = next(len(bundle) for bundle in sweep.launcher.bundles if trial in bundle)
        yield Sized(trial=trial, members=min(most, of), of=of)
        yield from finishing(assignment)

    return play


def sizes(sweep: Sweep) -> list[int]:
    return [len(bundle) for bundle in sweep.launcher.bundles]


def test_as_many_start_at_once_as_a_worker_found_to_pay(sweep: Sweep):
    sweep.run(by_trial({0: sizing(sweep, 2)}), slots=1, n_trials=40, bundle="auto")
    assert sizes(sweep) == [5, *[2] * 17, 1]


def test_as_long_as_all_of_a_bundle_pay_it_grows_up_to_a_share_of_the_trials(sweep: Sweep):
    sweep.run(sizing(sweep, 64), slots=1, n_trials=96, bundle="auto", sampler=RANDOM)
    assert sizes(sweep) == [8, *[12] * 7, 4]


def test_bundles_grow_again_when_a_worker_finds_more_to_pay_than_another(sweep: Sweep):
    sweep.run(by_trial({0: sizing(sweep, 2), 8: sizing(sweep, 8)}), slots=1, n_trials=64, bundle="auto")
    assert sizes(sweep)[:4] == [8, 2, 4, 4]


def test_what_pays_for_some_trials_says_nothing_of_those_that_share_nothing_with_them(sweep: Sweep):
    sweep.params = {"data.batch_size": "choice(32, 64)", "optimizer.lr": "interval(0.001, 0.1)"}
    sweep.run(by_trial({0: sizing(sweep, 1)}), slots=1, n_trials=40, bundle="auto", sampler=RANDOM)
    batches = {trial.number: trial.params["data.batch_size"] for trial in sweep.study.trials}
    bundles = sweep.launcher.bundles[1:]
    assert {len(bundle) for bundle in bundles if batches[bundle[0]] == batches[0]} == {1}
    assert max(len(bundle) for bundle in bundles if batches[bundle[0]] != batches[0]) > 1


def test_a_bundle_that_was_asked_for_shrinks_only_where_memory_is_short(sweep: Sweep):
    sweep.run(by_trial({0: sizing(sweep, 3)}), slots=1, n_trials=10, bundle=4)
    assert sizes(sweep) == [4, 3, 3]


def test_the_log_says_how_many_train_at_once(sweep: Sweep, tmp_path: Path):
    with SweepLog(tmp_path / "sweep.log", study="digits", objectives=sweep.make_spec().search.objectives) as log:
        observer = ListeningObserver(on_event=log)
        sweep.run(by_trial({0: sizing(sweep, 2)}), slots=1, n_trials=4, bundle=4, observer=observer)
    assert "bundle of 4 with trial 0: 2 train at once" in (tmp_path / "sweep.log").read_text()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(total=st.integers(1, 60), slots=st.integers(1, 3), found=st.lists(st.integers(1, 64), min_size=60, max_size=60))
def test_whatever_workers_find_no_bundle_is_larger_than_the_share_and_every_trial_is_there_once(
    untracked_sweep: Callable[[], Sweep], make_spec: Any, total: int, slots: int, found: list[int]
):
    sweep = untracked_sweep()
    plays = {trial: sizing(sweep, most) for trial, most in enumerate(found)}
    sweep.run(by_trial(plays), slots=slots, n_trials=total, bundle="auto", sampler=RANDOM)
    assert sweep.states() == ["COMPLETE"] * total
    spec = make_spec(bundle="auto", n_trials=total, sampler=RANDOM)
    assert max(sizes(sweep)) <= members_of(spec, cpu_slots(slots))
