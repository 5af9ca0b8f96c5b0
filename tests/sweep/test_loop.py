"""The sweep loop: dispatch, results and the end of a sweep."""

from __future__ import annotations

import math
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from besom.config.objectives import Objective
from besom.errors import BesomError, DataError, Interrupted, StoreError
from besom.sweep.progress.events import Dispatched, SweepEvent
from besom.sweep.study.study import StudyBook, finished_trials
from besom.system.source_file import SourceFile
from besom.tracking.recorder.recorder import Recorder
from besom.tracking.store import Location
from besom.workers.messages import Assignment, Blame, Finished, Message, Started, State, TrialResult
from tests.fakes import (
    ABOUT,
    ListeningObserver,
    completed,
    crashing,
    crashing_at_once,
    failed,
    failing,
    finishing,
    reported,
    started,
)
from tests.sweep.sweeps import PATIENCE_S, Sweep, by_trial


def test_every_trial_is_told_shown_and_recorded_once(sweep: Sweep):
    observer = sweep.run(finishing, n_trials=5)
    assert sweep.states() == ["COMPLETE"] * 5
    runs = sweep.runs()
    for trial in sweep.study.trials:
        run = runs.pop(trial.number)
        rate = trial.params["optimizer.lr"]
        assert trial.value == observer.values[trial.number] == run.data.metrics["best/val/acc"] == rate
        assert run.info.status == "FINISHED"
        assert run.info.run_name == f"digits-{trial.number}"
        assert run.data.params["optimizer.lr"] == str(rate)
        assert run.data.tags["besom.state"] == "COMPLETE"
        assert run.data.tags["besom.overrides"] == f"optimizer.lr={rate}"
    assert runs == {}


def test_as_many_trials_train_at_once_as_there_are_slots(sweep: Sweep):
    together = threading.Barrier(3)

    def play(assignment: Assignment) -> Iterator[Message]:
        together.wait(PATIENCE_S)
        yield from finishing(assignment)

    sweep.run(play, slots=3, n_trials=6)
    assert sweep.states() == ["COMPLETE"] * 6


def test_a_slot_that_falls_free_gets_the_next_trial_while_another_still_trains(sweep: Sweep):
    others_done = threading.Semaphore(0)

    def last(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        for _ in range(4):
            assert others_done.acquire(timeout=PATIENCE_S)
        yield completed(assignment.trial, 1.0)

    def other(assignment: Assignment) -> Iterator[Message]:
        yield from finishing(assignment)
        others_done.release()

    sweep.run(by_trial({0: last}, otherwise=other), n_trials=5)
    assert sweep.states() == ["COMPLETE"] * 5


def test_a_worker_outlives_its_trials(sweep: Sweep):
    sweep.run(finishing, slots=1, n_trials=4)
    assert len(sweep.launcher.launched) == 1


def test_a_dead_worker_costs_its_trial_alone_and_its_slot_gets_a_new_one(sweep: Sweep):
    sweep.run(by_trial({1: crashing, 2: crashing_at_once}), n_trials=5)
    assert sweep.states() == ["COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert len(sweep.launcher.launched) == 4
    for trial in (1, 2):
        run = sweep.runs()[trial]
        assert run.info.status == "FAILED"
        assert run.data.tags["besom.state"] == "FAIL"
        assert "killed by SIGKILL" in run.data.tags["besom.reason"]
        assert "killed by SIGKILL" in sweep.artifacts(trial)["traceback.txt"]


def test_after_a_failure_the_sweep_goes_on_with_the_same_worker(sweep: Sweep):
    observer = sweep.run(by_trial({0: failing, 2: failing}), slots=1, n_trials=4)
    assert sweep.states() == ["FAIL", "COMPLETE", "FAIL", "COMPLETE"]
    assert observer.reasons == {0: "ValueError: no luck", 1: None, 2: "ValueError: no luck", 3: None}
    assert sweep.artifacts(0)["traceback.txt"] == "Traceback …\nValueError: no luck\n"
    assert len(sweep.launcher.launched) == 1


def test_a_config_that_cannot_be_trained_fails_its_trial_without_a_worker(sweep: Sweep):
    sweep.params = {"data.batch_size": "choice(0, 16)"}
    observer = sweep.run(finishing, n_trials=6)
    for trial in sweep.study.trials:
        refused = trial.params["data.batch_size"] == 0
        assert trial.state is (TrialState.FAIL if refused else TrialState.COMPLETE)
        assert ("data.batch_size: 0 is below 1" in str(observer.reasons[trial.number])) == refused
        assert sweep.runs()[trial.number].info.status == ("FAILED" if refused else "FINISHED")
    assert set(sweep.states()) == {"COMPLETE", "FAIL"}  # the sampler chose both


def without_data(assignment: Assignment) -> Iterator[Message]:
    yield failed(assignment.trial, "no such file", blame=Blame.DATA)


def test_data_that_no_trial_can_use_end_the_sweep_at_once(sweep: Sweep):
    with pytest.raises(DataError, match="study digits: no such file"):
        sweep.run(without_data)
    assert sweep.states() == []


def test_a_full_disk_ends_the_sweep_in_order_and_the_trial_that_met_it_is_run_again(sweep: Sweep):
    def full(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield failed(assignment.trial, "OSError: [Errno 28] No space left on device", blame=Blame.DISK)

    with pytest.raises(
        StoreError, match=r"study digits: trial 1: OSError.*; the disk is full: make room on it, and run"
    ):
        sweep.run(by_trial({1: full}), slots=1)
    assert sweep.states() == ["COMPLETE"]
    assert sweep.runs()[1].data.tags["besom.state"] == "INTERRUPTED"
    assert sweep.run(finishing, slots=1).starts[0] == 1
    assert sweep.states() == ["COMPLETE"] * 4


def test_data_that_one_trial_chose_fail_that_trial_alone(sweep: Sweep):
    sweep.params = {"data.limit": "range(100, 200)"}
    sweep.run(by_trial({1: without_data}))
    assert sweep.states() == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


def test_more_failures_than_may_be_end_the_sweep(sweep: Sweep):
    sweep.run(failing, slots=1, n_trials=8, max_failure_rate=0.25)
    assert sweep.states() == ["FAIL"] * 3
    assert isinstance(sweep.loop.gave_up, BesomError)
    assert "3 of 8 trials failed" in str(sweep.loop.gave_up)


def test_a_sweep_that_gives_up_again_tells_of_the_failures_since_it_was_taken_up(sweep: Sweep):
    for _ in range(2):
        sweep.run(failing, slots=1, n_trials=8, max_failure_rate=0.25)
        assert "3 of 8 trials failed, 3 of them by" in str(sweep.loop.gave_up)
    assert sweep.states() == ["FAIL"] * 6


class Slow(Recorder):
    """A recorder that writes one trial between two polls, unless the loop waits for it."""

    waited_for = False

    def flush(self) -> None:
        self.waited_for = True

    def ended(self) -> list[int]:
        if self.waited_for:
            return super().ended()
        return [] if self._ended.empty() else [self._ended.get_nowait()]


def test_trials_wait_for_a_recorder_that_does_not_keep_up(sweep: Sweep):
    written: list[int] = []
    most = 0

    class Counting(Slow):
        def ended(self) -> list[int]:
            nonlocal most
            most = max(most, len(sweep.observer.states) - len(written))
            found = super().ended()
            written.extend(found)
            return found

    sweep.recorder = Counting(None, "digits")
    sweep.run(finishing, slots=4, n_trials=24, unwritten=3)
    assert sweep.states() == ["COMPLETE"] * 24
    assert most <= 3 + 4


def test_a_recorder_that_fails_while_trials_wait_for_it_ends_the_sweep(sweep: Sweep):
    class Failing(Recorder):
        def ended(self) -> list[int]:
            if len(sweep.observer.states) >= 2:
                raise StoreError("the disk is full")
            return []

    sweep.recorder = Failing(None, "digits")
    with pytest.raises(StoreError, match="the disk is full"):
        sweep.run(finishing, slots=2, unwritten=2)


def test_no_trial_starts_after_the_time_is_up(sweep: Sweep):
    observer = sweep.run(finishing, timeout_s=1e-9)
    assert observer.starts == []
    assert sweep.states() == []
    sweep.run(finishing)
    assert sweep.states() == ["COMPLETE"] * 4


def test_nan_is_recorded_where_it_is_a_metric_and_a_failure_where_it_is_the_objective(sweep: Sweep):
    def play(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield reported(assignment.trial, 0, val_loss=math.nan, val_acc=0.5)
        yield completed(assignment.trial, math.nan if assignment.trial == 0 else 0.5)

    observer = sweep.run(play, n_trials=2)
    assert sweep.states() == ["FAIL", "COMPLETE"]
    assert observer.reasons[0] == "val/acc is nan"
    assert [sweep.runs()[trial].info.status for trial in (0, 1)] == ["FAILED", "FINISHED"]
    assert math.isnan(sweep.runs()[1].data.metrics["val/loss"])


def test_workers_that_never_start_end_the_sweep_and_cost_no_trial(sweep: Sweep):
    with pytest.raises(BesomError, match=r"killed by SIGKILL before it was ready; .*worker-\d\.log"):
        sweep.run(finishing, ready=False)
    assert sweep.states() == []
    assert sweep.runs() == {}
    sweep.run(finishing)
    assert sweep.states() == ["COMPLETE"] * 4


def test_a_sweep_without_a_better_trial_for_long_ends_and_stays_ended(sweep: Sweep):
    values = [0.1, 0.5, 0.5, 0.4, 0.3, 0.9]

    def play(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield completed(assignment.trial, values[assignment.trial])

    sweep.run(play, slots=1, n_trials=6, patience=3)
    assert sweep.states() == ["COMPLETE"] * 5
    sweep.run(play, slots=1, n_trials=6, patience=3)
    assert sweep.states() == ["COMPLETE"] * 5
    sweep.run(play, slots=1, n_trials=6, patience=4)
    assert sweep.states() == ["COMPLETE"] * 6


def test_known_good_parameters_are_tried_first_and_once(sweep: Sweep):
    known = [{"optimizer.lr": 0.02}, {"optimizer.lr": 0.03}]
    sweep.run(finishing, slots=1, n_trials=3, enqueue=known)
    sweep.run(finishing, slots=1, n_trials=5, enqueue=[*known, {"optimizer.lr": 0.04}])
    rates = [trial.params["optimizer.lr"] for trial in sweep.study.trials]
    assert rates[:2] == [0.02, 0.03]
    assert rates[3] == 0.04
    assert len(rates) == len(set(rates)) == 5


def test_what_breaks_a_constraint_is_complete_and_not_the_best(sweep: Sweep):
    def play(assignment: Assignment) -> Iterator[Message]:
        loss = 0.9 - 0.2 * assignment.trial
        yield started(assignment.trial)
        yield reported(assignment.trial, 1, val_acc=loss, val_loss=loss)
        yield completed(assignment.trial, loss)

    observer = sweep.run(play, slots=1, n_trials=4, constraints=("val/loss <= 0.6",))
    assert sweep.states() == ["COMPLETE"] * 4
    assert [observer.feasible[trial] for trial in range(4)] == [False, False, True, True]
    assert sweep.study.best_trial.number == 2
    assert [sweep.runs()[trial].data.tags["besom.feasible"] for trial in (0, 2)] == ["false", "true"]


def test_several_objectives_are_told_and_recorded_each(sweep: Sweep):
    objectives = (
        Objective(name="val/acc", direction="maximize"),
        Objective(name="cost/params", direction="minimize"),
    )

    def play(assignment: Assignment) -> Iterator[Message]:
        trial = assignment.trial
        yield started(trial)
        yield Finished(trial=trial, result=TrialResult(values=(trial / 10, trial * 100.0), duration_s=0.1))

    sweep.run(play, slots=1, n_trials=3, objectives=objectives)
    assert [trial.values for trial in sweep.study.trials] == [[0.0, 0.0], [0.1, 100.0], [0.2, 200.0]]
    assert len(sweep.study.best_trials) == 3
    metrics = sweep.runs()[2].data.metrics
    assert (metrics["best/val/acc"], metrics["best/cost/params"]) == (0.2, 200.0)


def test_a_trial_ran_when_its_worker_says_however_late_that_is_heard(sweep: Sweep):
    def play(assignment: Assignment) -> Iterator[Message]:
        trial = assignment.trial
        yield Started(trial=trial, about=ABOUT, began_s=1_000_000.0)
        state = State.COMPLETE if trial == 0 else State.FAIL
        values = (0.5,) if trial == 0 else ()
        yield Finished(trial=trial, result=TrialResult(state=state, values=values, duration_s=2.3, ended_s=1_000_002.3))

    sweep.run(play, slots=1, n_trials=2)
    for trial in sweep.study.trials:
        assert trial.datetime_start == datetime.fromtimestamp(1_000_000.0)
        assert trial.datetime_complete == datetime.fromtimestamp(1_000_002.3)
        info = sweep.runs()[trial.number].info
        assert (info.start_time, info.end_time) == (1_000_000_000, 1_000_002_300)


GRID = {"_target_": "optuna.samplers.GridSampler"}


def test_a_grid_is_gone_through_once_whatever_n_trials_says(sweep: Sweep):
    sweep.params = {"optimizer.lr": "choice(0.01, 0.02)", "model.depth": "range(1, 4)"}
    sweep.run(finishing, n_trials=4, sampler=GRID)
    sweep.run(finishing, n_trials=100, sampler=GRID)
    points = [tuple(trial.params.values()) for trial in sweep.study.trials]
    assert points == [(rate, depth) for rate in (0.01, 0.02) for depth in (1, 2, 3)]


def test_a_trial_that_is_recorded_as_over_is_not_run_again_although_the_study_missed_its_end(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
):
    sweep.run(finishing, slots=1, n_trials=2)

    def die(*_: object) -> None:
        raise KeyboardInterrupt  # like a kill -9 between MLflow and the study's storage

    with monkeypatch.context() as killed:
        killed.setattr(StudyBook, "settle", die)
        with pytest.raises(KeyboardInterrupt):
            sweep.run(finishing, slots=1, n_trials=3)
    assert sweep.states() == ["COMPLETE"] * 2
    lost = sweep.study.trials[2]
    assert sweep.runs()[2].info.status == "FINISHED"

    observer = sweep.run(finishing, slots=1, n_trials=4)
    assert observer.starts == [3]
    assert sweep.states() == ["COMPLETE"] * 4
    assert sweep.study.trials[2].params == lost.params
    assert sweep.study.trials[2].value == lost.params["optimizer.lr"]
    assert [run.info.status for run in sweep.all_runs()] == ["FINISHED"] * 4


def test_a_store_that_breaks_ends_the_sweep_with_one_line_and_costs_no_trial(sweep: Sweep):
    def breaking(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        with closing(sqlite3.connect(sweep.location.database)) as database, database:
            database.execute("CREATE TRIGGER full BEFORE INSERT ON metrics BEGIN SELECT RAISE(ABORT, 'full'); END")
        yield from finishing(assignment)

    with pytest.raises(StoreError, match=r"mlflow\.db: cannot be used") as refused:
        sweep.run(by_trial({0: breaking}), slots=1)
    assert "\n" not in str(refused.value)
    assert set(sweep.states()) <= {"COMPLETE"}


PLAYS = {"COMPLETE": finishing, "FAIL": failing, "crash": crashing, "crash at once": crashing_at_once}


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fates=st.lists(st.sampled_from(sorted(PLAYS)), min_size=1, max_size=6),
    slots=st.integers(1, 3),
    stopped_at=st.none() | st.integers(0, 5),
)
def test_whatever_happens_each_trial_is_told_its_own_fate_and_none_is_lost(
    sweep: Sweep, tmp_path_factory: pytest.TempPathFactory, fates: list[str], slots: int, stopped_at: int | None
):
    sweep.location = Location.of({"uri": None, "directory": tmp_path_factory.mktemp("sweep")})
    sweep.tracked = False
    fate_of: dict[float, str] = {}  # by parameter, which a resumed trial keeps

    def play(assignment: Assignment) -> Iterator[Message]:
        rate = assignment.config["optimizer"]["lr"]
        fate = fate_of.setdefault(rate, fates[len(fate_of) % len(fates)])
        yield from PLAYS[fate](assignment)

    def stop(event: SweepEvent) -> None:
        if isinstance(event, Dispatched) and event.trial == stopped_at:
            signal.raise_signal(signal.SIGINT)

    try:
        sweep.run(play, slots=slots, n_trials=len(fates), observer=ListeningObserver(on_event=stop))
    except Interrupted:
        sweep.run(play, slots=slots, n_trials=len(fates))
    trials = finished_trials(sweep.study)
    assert len(trials) == len(sweep.states()) == len(fates)
    for trial in trials:
        fate = fate_of[trial.params["optimizer.lr"]]
        assert trial.state.name == ("COMPLETE" if fate == "COMPLETE" else "FAIL")


def test_a_trial_of_other_code_is_told_once_and_its_run_is_tagged(sweep: Sweep):
    def play(assignment: Assignment) -> Iterator[Message]:
        digest = ("a" if assignment.trial < 2 else "b") * 64
        net = SourceFile(name="net.py", path="/project/net.py", digest=digest)
        for message in finishing(assignment):
            yield replace(message, sources=(net,)) if isinstance(message, Started) else message

    observer = sweep.run(play, slots=1, n_trials=4)
    (warning,) = observer.warnings
    assert warning.startswith("trial 2 is trained by other code than the study's first trials: net.py 2 ")
    tags = {trial: run.data.tags.get("besom.code_differs") for trial, run in sweep.runs().items()}
    assert tags == {0: None, 1: None, 2: "net.py 2", 3: "net.py 2"}
    assert len(sweep.run(play, slots=1, n_trials=5).warnings) == 1  # a resumed sweep
