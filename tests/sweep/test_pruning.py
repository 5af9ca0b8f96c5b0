"""Pruned trials."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient

from besom.config.units import Unit
from besom.errors import ConfigError, Interrupted
from besom.sweep.progress.events import SweepEvent
from besom.workers.messages import Assignment, Message, Moment, Reported, State
from tests.fakes import ListeningObserver, Play, completed, pruned, reported, started
from tests.sweep.sweeps import MEDIAN, PATIENCE_S, Impatient, Sweep, by_trial


def worse_and_worse(assignment: Assignment) -> Iterator[Message]:
    """Play ten epochs, in which each trial is worse than the previous one."""
    trial = assignment.trial
    yield started(trial)
    for epoch in range(11):
        yield reported(trial, epoch, val_acc=(epoch / 10) / (trial + 1))
    yield completed(trial, 1 / (trial + 1))


def ignoring_stop_requests(said: threading.Event) -> Play:
    """Return a play that reports a bad epoch and then ignores stop requests."""

    def play(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield reported(assignment.trial, 1, val_acc=0.01)
        said.set()
        threading.Event().wait(PATIENCE_S)

    return play


def test_a_pruned_trial_is_pruned_in_optuna_and_killed_in_mlflow_at_the_epoch_of_the_decision(sweep: Sweep):
    observer = sweep.run(worse_and_worse, slots=1, n_trials=3, pruner=MEDIAN)
    assert sweep.states() == ["COMPLETE", "PRUNED", "PRUNED"]
    assert observer.states[1] is State.PRUNED
    run = sweep.runs()[1]
    assert (run.info.status, run.data.tags["besom.state"]) == ("KILLED", "PRUNED")
    # Epochs that the worker reported before it received the stop request do not count.
    assert sweep.study.trials[1].intermediate_values == {1: 0.05}
    history = MlflowClient(sweep.location.uri).get_metric_history(run.info.run_id, "val/acc")
    assert [(point.step, point.value) for point in history] == [(0, 0.0), (1, 0.05)]
    assert sweep.study.trials[1].user_attrs["besom"]["epochs"] == 1


def by_halves(assignment: Assignment) -> Iterator[Message]:
    """Play two epochs of 10 steps with two validations each, in which each trial is worse than the previous one."""
    trial = assignment.trial
    yield started(trial)
    for epoch in (1, 2):
        for step, metrics in ((4, {"val/acc": 0.1 * epoch}), (8, {"val/acc": 0.2 * epoch}), (10, {"train/acc": 0.5})):
            moment = Moment(epoch=epoch, step=10 * (epoch - 1) + step, in_epoch=step < 10)
            scaled = {name: value / (trial + 1) for name, value in metrics.items()}
            yield Reported(trial=trial, moment=moment, metrics=scaled, time_s=0.0)
    yield completed(trial, 0.4 / (trial + 1))


@pytest.mark.parametrize(
    ("fidelity", "complete", "pruned"),
    [
        (Unit.EPOCH, {1: 0.2, 2: 0.4}, {1: 0.1}),
        (Unit.STEP, {4: 0.1, 8: 0.2, 14: 0.2, 18: 0.4}, {4: 0.05}),
        (Unit.VALIDATION, {1: 0.1, 2: 0.2, 3: 0.2, 4: 0.4}, {1: 0.05}),
    ],
)
def test_a_pruner_counts_in_the_fidelity_also_where_the_study_missed_what_mlflow_has(
    sweep: Sweep, fidelity: Unit, complete: dict[int, float], pruned: dict[int, float]
):
    sweep.params = {**sweep.params, "+trainer.val_check_interval": "choice(0.4)"}
    keys = {"slots": 1, "pruner": MEDIAN, "fidelity": fidelity}
    sweep.run(by_halves, n_trials=2, **keys)
    assert [trial.intermediate_values for trial in sweep.study.trials] == [complete, pruned]
    first = sweep.runs()[0]
    assert first.data.tags["besom.axis"] == "step"
    history = MlflowClient(sweep.location.uri).get_metric_history(first.info.run_id, "epoch")
    assert [(point.step, point.value) for point in history] == [(4, 1), (8, 1), (10, 1), (14, 2), (18, 2), (20, 2)]
    with sqlite3.connect(sweep.location.directory / "optuna.db") as database:
        for table in ("trial_intermediate_values", "trial_values"):
            database.execute(f"DELETE FROM {table}")
        database.execute("UPDATE trials SET state = 'WAITING', datetime_complete = NULL")
    sweep.run(by_halves, n_trials=2, **keys)
    assert sweep.launcher.bundles == []  # nothing was trained again
    assert [trial.intermediate_values for trial in sweep.study.trials] == [complete, pruned]


def test_a_study_keeps_its_fidelity(sweep: Sweep):
    sweep.run(worse_and_worse, n_trials=1, fidelity=Unit.STEP)
    with pytest.raises(ConfigError, match=r"another fidelity \(it was steps, it is epochs\)"):
        sweep.run(worse_and_worse, n_trials=2)


@pytest.mark.parametrize(("group", "steps"), [("trainer", "max_epochs"), ("evaluation", "folds")])
def test_a_trial_that_came_to_its_last_epoch_or_fold_is_not_pruned_any_more(sweep: Sweep, group: str, steps: str):
    def late(assignment: Assignment) -> Iterator[Message]:
        trial = assignment.trial
        yield started(trial)
        yield reported(trial, assignment.config[group][steps], val_acc=1 / (trial + 1))
        yield completed(trial, 1 / (trial + 1))

    sweep.params = {**sweep.params, f"{group}.{steps}": "choice(5)"}
    sweep.run(late, slots=1, n_trials=3, pruner=MEDIAN)
    assert sweep.states() == ["COMPLETE"] * 3


def test_without_a_pruner_nothing_is_pruned_and_an_app_may_still_prune_by_itself(sweep: Sweep):
    def gives_up(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield reported(assignment.trial, 3, val_acc=0.5)
        yield pruned(assignment.trial)

    sweep.run(by_trial({1: gives_up}, otherwise=worse_and_worse), slots=1, n_trials=3)
    assert sweep.states() == ["COMPLETE", "PRUNED", "COMPLETE"]


@pytest.mark.parametrize("tracked", [True, False])
def test_a_trial_that_is_pruned_before_it_has_begun_has_a_run_all_the_same(sweep: Sweep, tracked: bool):
    def thinks_better_of_it(assignment: Assignment) -> Iterator[Message]:
        yield pruned(assignment.trial)

    sweep.tracked = tracked
    sweep.run(by_trial({1: thinks_better_of_it}), slots=1, n_trials=3)
    assert sweep.states() == ["COMPLETE", "PRUNED", "COMPLETE"]
    if tracked:
        run = sweep.runs()[1]
        assert (run.info.status, run.data.tags["besom.state"]) == ("KILLED", "PRUNED")


def test_a_pruned_trial_that_does_not_stop_in_time_is_pruned_and_its_slot_gets_a_new_worker(sweep: Sweep):
    deaf = threading.Event()

    def late(event: SweepEvent) -> None:
        if isinstance(event, Reported) and event.trial == 1:
            assert deaf.wait(PATIENCE_S)

    observer = sweep.run(
        by_trial({1: ignoring_stop_requests(deaf)}, otherwise=worse_and_worse),
        slots=1, n_trials=2, pruner=MEDIAN, trial_timeout_s=0.5, observer=ListeningObserver(on_event=late),
    )  # fmt: skip
    assert sweep.states() == ["COMPLETE", "PRUNED"]
    assert observer.states[1] is State.PRUNED
    assert len(sweep.launcher.launched) == 2


def test_a_trial_that_was_pruned_when_the_user_stops_at_once_is_pruned(sweep: Sweep):
    deaf = threading.Event()

    def late(event: SweepEvent) -> None:
        if isinstance(event, Reported) and event.trial == 1:
            assert deaf.wait(PATIENCE_S)

    with pytest.raises(Interrupted):
        sweep.run(
            by_trial({1: ignoring_stop_requests(deaf)}, otherwise=worse_and_worse),
            slots=1,
            n_trials=3,
            pruner=MEDIAN,
            observer=Impatient(trial=1, times=2, on_event=late),
        )
    assert sweep.states() == ["COMPLETE", "PRUNED"]
    run = sweep.runs()[1]
    assert (run.info.status, run.data.tags["besom.state"]) == ("KILLED", "PRUNED")
