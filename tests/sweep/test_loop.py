from __future__ import annotations

import math
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState

from besom.conversation import Outcome
from besom.errors import BesomError, DataError, Interrupted, StoreError
from besom.objectives import Objective
from besom.sweep.compose import Composer
from besom.sweep.constraints import parse_constraints
from besom.sweep.jobs import TrainingJobs
from besom.sweep.loop import UNWRITTEN, SweepLoop
from besom.sweep.recovery import adopt_recorded
from besom.sweep.space import SpaceParser
from besom.sweep.study import StudyBook, finished_trials, open_study
from besom.tracking.nothing import NoRecorder
from besom.tracking.recorder import Recorder
from besom.tracking.store import Location
from besom.workers.devices import Device, Slot
from besom.workers.messages import Assignment, Blame, Finished, Message, State
from besom.workers.pool import WorkerPool
from besom.workers.tasks import Training
from tests.conftest import App
from tests.fakes import (
    FakeLauncher,
    ListeningBoard,
    Play,
    completed,
    cpu_slots,
    crashing,
    crashing_at_once,
    failed,
    failing,
    finishing,
    pruned,
    reported,
    started,
)

PATIENCE_S = 20  # for what other threads do; no test waits that long unless it fails


@dataclass
class Sweep:
    """One study in a folder of its own, whose loop can be run again and again."""

    app: App
    make_spec: Callable[..., Any]
    location: Location
    params: dict[str, str]
    tracked: bool = True
    slots: list[Slot] | None = None
    recorder: Recorder | None = None

    def run(
        self, play: Play, *, slots: int = 2, ready: bool = True, board: ListeningBoard | None = None,
        unwritten: int = UNWRITTEN, **spec: Any,
    ) -> ListeningBoard:  # fmt: skip
        self.launcher = FakeLauncher(play, ready=ready)
        self.board = board or ListeningBoard()
        wanted = self.make_spec(**spec)
        space, fixed = SpaceParser(self.app[0], source="digits.yaml").space(self.params, {})
        composer = Composer(*self.app, fixed=fixed)
        directory = self.location.directory
        recorder = self.recorder or (Recorder(self.location, "digits") if self.tracked else NoRecorder())
        pool = WorkerPool(
            self.slots or cpu_slots(slots), Training(), logs=directory / "logs", launcher=self.launcher,
            max_trials=wanted.max_trials_per_worker,
        )  # fmt: skip
        with pool, recorder, open_study(wanted, space, directory) as book:
            if self.tracked:
                recorder.open_study("digits", token="digits", tags={"besom.kind": "study"}, note="")
            book.enqueue(wanted.enqueue)
            adopt_recorded(recorder, book, wanted)
            self.loop = SweepLoop(
                spec=wanted,
                book=book,
                jobs=TrainingJobs(composer, study_name="digits", tags={"besom.study": "digits"}),
                pool=pool,
                recorder=recorder,
                board=self.board,
                scratch=directory / "scratch",
                constraints=parse_constraints(wanted.constraints, "digits.yaml"),
                unwritten=unwritten,
            )
            self.loop.run()
        return self.board

    @property
    def study(self) -> optuna.Study:
        return optuna.load_study(study_name="digits", storage=f"sqlite:///{self.location.directory / 'optuna.db'}")

    def states(self) -> list[str]:
        """How the trials ended that count, by number."""
        assert TrialState.RUNNING not in [trial.state for trial in self.study.trials]
        return [trial.state.name for trial in finished_trials(self.study)]

    def runs(self) -> dict[int, Run]:
        """MLflow's runs by trial number."""
        client = MlflowClient(self.location.uri)
        experiment = client.get_experiment_by_name("digits")
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        assert all(run.info.status != "RUNNING" for run in runs if "besom.trial" in run.data.tags)
        return {int(run.data.tags["besom.trial"]): run for run in reversed(runs) if "besom.trial" in run.data.tags}

    def all_runs(self) -> list[Run]:
        """The trials' runs, those of earlier attempts included, the oldest first."""
        client = MlflowClient(self.location.uri)
        experiment = client.get_experiment_by_name("digits")
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        return [run for run in reversed(runs) if "besom.trial" in run.data.tags]

    def artifacts(self, trial: int) -> dict[str, str]:
        """The text files of a trial's run."""
        client = MlflowClient(self.location.uri)
        run_id = self.runs()[trial].info.run_id
        paths = [file.path for file in client.list_artifacts(run_id) if file.path.endswith((".txt", ".yaml"))]
        return {path: Path(client.download_artifacts(run_id, path)).read_text() for path in paths}


@pytest.fixture
def sweep(digits_app: App, make_spec: Callable[..., Any], location: Location) -> Sweep:
    return Sweep(digits_app, make_spec, location, {"optimizer.lr": "interval(0.001, 0.1)"})


def by_trial(plays: dict[int, Play], *, otherwise: Play = finishing) -> Play:
    return lambda assignment: plays.get(assignment.trial, otherwise)(assignment)


def test_every_trial_is_told_shown_and_recorded_once(sweep: Sweep):
    board = sweep.run(finishing, n_trials=5)
    assert sweep.states() == ["COMPLETE"] * 5
    runs = sweep.runs()
    for trial in sweep.study.trials:
        run = runs.pop(trial.number)
        rate = trial.params["optimizer.lr"]
        assert trial.value == board.values[trial.number] == run.data.metrics["best/val/acc"] == rate
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
    board = sweep.run(by_trial({0: failing, 2: failing}), slots=1, n_trials=4)
    assert sweep.states() == ["FAIL", "COMPLETE", "FAIL", "COMPLETE"]
    assert board.reasons == {0: "ValueError: no luck", 1: None, 2: "ValueError: no luck", 3: None}
    assert sweep.artifacts(0)["traceback.txt"] == "Traceback …\nValueError: no luck\n"
    assert len(sweep.launcher.launched) == 1


def test_a_config_that_cannot_be_trained_fails_its_trial_without_a_worker(sweep: Sweep):
    sweep.params = {"data.batch_size": "choice(0, 16)"}
    board = sweep.run(finishing, n_trials=6)
    for trial in sweep.study.trials:
        refused = trial.params["data.batch_size"] == 0
        assert trial.state is (TrialState.FAIL if refused else TrialState.COMPLETE)
        assert ("data.batch_size: 0 is below 1" in str(board.reasons[trial.number])) == refused
        assert sweep.runs()[trial.number].info.status == ("FAILED" if refused else "FINISHED")
    assert set(sweep.states()) == {"COMPLETE", "FAIL"}  # the sampler chose both


def without_data(assignment: Assignment) -> Iterator[Message]:
    yield failed(assignment.trial, "no such file", blame=Blame.DATA)


def test_data_that_no_trial_can_use_end_the_sweep_at_once(sweep: Sweep):
    with pytest.raises(DataError, match="study digits: no such file"):
        sweep.run(without_data)
    assert sweep.states() == []


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


class Slow(NoRecorder):
    """It writes one trial between two looks, unless it is waited for."""

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
            most = max(most, len(sweep.board.states) - len(written))
            found = super().ended()
            written.extend(found)
            return found

    sweep.recorder = Counting()
    sweep.run(finishing, slots=4, n_trials=24, unwritten=3)
    assert sweep.states() == ["COMPLETE"] * 24
    assert most <= 3 + 4


def test_a_recorder_that_fails_while_trials_wait_for_it_ends_the_sweep(sweep: Sweep):
    class Failing(NoRecorder):
        def ended(self) -> list[int]:
            if len(sweep.board.states) >= 2:
                self._error = StoreError("the disk is full")
                self._raise()
            return []

    sweep.recorder = Failing()
    with pytest.raises(StoreError, match="the disk is full"):
        sweep.run(finishing, slots=2, unwritten=2)


def test_no_trial_starts_after_the_time_is_up(sweep: Sweep):
    board = sweep.run(finishing, timeout_s=1e-9)
    assert board.starts == []
    assert sweep.states() == []
    sweep.run(finishing)
    assert sweep.states() == ["COMPLETE"] * 4


def test_nan_is_recorded_where_it_is_a_metric_and_a_failure_where_it_is_the_objective(sweep: Sweep):
    def play(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield reported(assignment.trial, 0, val_loss=math.nan, val_acc=0.5)
        yield completed(assignment.trial, math.nan if assignment.trial == 0 else 0.5)

    board = sweep.run(play, n_trials=2)
    assert sweep.states() == ["FAIL", "COMPLETE"]
    assert board.reasons[0] == "val/acc is nan"
    assert [sweep.runs()[trial].info.status for trial in (0, 1)] == ["FAILED", "FINISHED"]
    assert math.isnan(sweep.runs()[1].data.metrics["val/loss"])


def test_workers_that_never_start_end_the_sweep_and_cost_no_trial(sweep: Sweep):
    with pytest.raises(BesomError, match=r"killed by SIGKILL before it was ready; .*worker-\d\.log"):
        sweep.run(finishing, ready=False)
    assert sweep.states() == []
    assert sweep.runs() == {}
    sweep.run(finishing)
    assert sweep.states() == ["COMPLETE"] * 4


def epoch_after_epoch(assignment: Assignment) -> Iterator[Message]:
    yield started(assignment.trial)
    for epoch in range(PATIENCE_S * 100):
        yield reported(assignment.trial, epoch, val_acc=0.25)
        time.sleep(0.01)


def stuck(assignment: Assignment) -> Iterator[Message]:
    yield started(assignment.trial)
    yield reported(assignment.trial, 0, val_acc=0.25)
    threading.Event().wait(PATIENCE_S)


@dataclass
class Impatient(ListeningBoard):
    """Presses ctrl-C when a trial reports, as often as `times`, each time the one before was noticed."""

    trial: int = 0
    times: int = 1
    pressed: int = 0

    def reported(self, trial: int, epoch: int, value: float | None) -> None:
        if trial == self.trial and not self.pressed:
            self.press()

    def stopping(self) -> None:
        if self.pressed < self.times:
            self.press()

    def press(self) -> None:
        self.pressed += 1
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("play", "times"), [(epoch_after_epoch, 1), (stuck, 2)])
def test_ctrl_c_leaves_true_states_and_the_same_command_completes_the_sweep(sweep: Sweep, play: Play, times: int):
    with pytest.raises(Interrupted):
        sweep.run(by_trial({2: play}), board=Impatient(trial=2, times=times), slots=1)
    assert sweep.board.put_back == [2]
    assert sweep.states() == ["COMPLETE", "COMPLETE"]
    killed = sweep.runs()[2]
    assert (killed.info.status, killed.data.tags["besom.state"]) == ("KILLED", "INTERRUPTED")
    assert killed.data.metrics["val/acc"] == 0.25
    interrupted = sweep.study.trials[2]
    assert interrupted.state is TrialState.WAITING

    board = sweep.run(finishing, slots=1)
    assert sweep.states() == ["COMPLETE"] * 4
    assert board.starts == [2, 3]
    assert sweep.study.trials[2].params == interrupted.params
    assert [run.info.status for run in sweep.all_runs()] == ["FINISHED", "FINISHED", "KILLED", "FINISHED", "FINISHED"]
    sweep.run(finishing)
    assert len(sweep.states()) == 4


def test_a_trial_that_ends_with_the_epoch_in_which_it_is_stopped_is_complete(sweep: Sweep):
    def last_epoch(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield reported(assignment.trial, 1, val_acc=0.5)
        assert noticed.wait(PATIENCE_S)
        yield completed(assignment.trial, 0.5)

    class Noticing(Impatient):
        def stopping(self) -> None:
            noticed.set()

    noticed = threading.Event()
    with pytest.raises(Interrupted):
        # The stop is on its way when the worker is through; it comes too late.
        sweep.run(last_epoch, board=Noticing(), slots=1)
    assert sweep.states() == ["COMPLETE"]
    assert [run.info.status for run in sweep.all_runs()] == ["FINISHED"]


def test_a_trial_that_was_stopped_before_its_worker_said_a_word_leaves_no_run(sweep: Sweep):
    def mute(assignment: Assignment) -> Iterator[Message]:
        threading.Event().wait(PATIENCE_S)
        yield from finishing(assignment)

    @dataclass
    class Twice(Impatient):
        times: int = 2

    board = Twice(on_start=lambda trial: board.press())
    with pytest.raises(Interrupted):
        sweep.run(mute, slots=1, board=board)
    assert sweep.states() == []
    assert sweep.runs() == {}
    assert list((sweep.location.directory / "scratch").iterdir()) == []


def test_two_ctrl_cs_before_the_loop_could_look_end_the_process(sweep: Sweep):
    def twice(trial: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(finishing, board=ListeningBoard(on_start=twice))
    assert signal.getsignal(signal.SIGINT) == before
    assert TrialState.RUNNING not in [trial.state for trial in sweep.study.trials]


@pytest.mark.parametrize("tracked", [True, False])
def test_what_was_over_before_the_process_was_ended_stays_over(sweep: Sweep, tracked: bool):
    class Leaving(ListeningBoard):
        def finished(self, *how: Any, **more: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    sweep.tracked = tracked
    with pytest.raises(KeyboardInterrupt):
        sweep.run(finishing, slots=1, board=Leaving())
    assert sweep.states() == ["COMPLETE"]
    assert [run.info.status for run in sweep.all_runs()] == ["FINISHED"] * tracked


def test_a_ctrl_c_that_finds_nothing_left_to_do_interrupts_nothing(sweep: Sweep):
    class Late(ListeningBoard):
        def finished(self, trial: int, *how: Any, **more: Any) -> None:
            if trial == 1:
                signal.raise_signal(signal.SIGINT)

    sweep.run(finishing, slots=1, n_trials=2, board=Late())
    assert sweep.states() == ["COMPLETE"] * 2


MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1}


def worse_and_worse(assignment: Assignment) -> Iterator[Message]:
    """Ten epochs; each trial is worse than the one before it."""
    trial = assignment.trial
    yield started(trial)
    for epoch in range(11):
        yield reported(trial, epoch, val_acc=(epoch / 10) / (trial + 1))
    yield completed(trial, 1 / (trial + 1))


def test_a_pruned_trial_is_pruned_in_optuna_and_killed_in_mlflow_at_the_epoch_of_the_decision(sweep: Sweep):
    board = sweep.run(worse_and_worse, slots=1, n_trials=3, pruner=MEDIAN)
    assert sweep.states() == ["COMPLETE", "PRUNED", "PRUNED"]
    assert board.states[1] is State.PRUNED
    run = sweep.runs()[1]
    assert (run.info.status, run.data.tags["besom.state"]) == ("KILLED", "PRUNED")
    # What the worker did before it heard of it does not count, however far it came.
    assert sweep.study.trials[1].intermediate_values == {1: 0.05}
    history = MlflowClient(sweep.location.uri).get_metric_history(run.info.run_id, "val/acc")
    assert [(point.step, point.value) for point in history] == [(0, 0.0), (1, 0.05)]
    assert sweep.study.trials[1].user_attrs["besom"]["epochs"] == 1


def test_a_trial_that_came_to_its_last_epoch_is_not_pruned_any_more(sweep: Sweep):
    def late(assignment: Assignment) -> Iterator[Message]:
        trial, epochs = assignment.trial, assignment.config["trainer"]["max_epochs"]
        yield started(trial)
        yield reported(trial, epochs, val_acc=1 / (trial + 1))
        yield completed(trial, 1 / (trial + 1))

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

    def hanging(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield reported(assignment.trial, 1, val_acc=0.01)
        deaf.set()
        threading.Event().wait(PATIENCE_S)

    class Late(ListeningBoard):
        def reported(self, trial: int, epoch: int, value: float | None) -> None:
            if trial == 1:
                assert deaf.wait(PATIENCE_S)

    board = sweep.run(
        by_trial({1: hanging}, otherwise=worse_and_worse),
        slots=1, n_trials=2, pruner=MEDIAN, trial_timeout_s=0.5, board=Late(),
    )  # fmt: skip
    assert sweep.states() == ["COMPLETE", "PRUNED"]
    assert board.states[1] is State.PRUNED
    assert len(sweep.launcher.launched) == 2


def test_a_trial_that_was_pruned_when_the_user_stops_at_once_is_pruned(sweep: Sweep):
    deaf = threading.Event()

    def hanging(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield reported(assignment.trial, 1, val_acc=0.01)
        deaf.set()
        threading.Event().wait(PATIENCE_S)

    @dataclass
    class Late(Impatient):
        def reported(self, trial: int, epoch: int, value: float | None) -> None:
            if trial == 1:
                assert deaf.wait(PATIENCE_S)
                self.press()

    with pytest.raises(Interrupted):
        sweep.run(
            by_trial({1: hanging}, otherwise=worse_and_worse), slots=1, n_trials=3, pruner=MEDIAN, board=Late(times=2)
        )
    assert sweep.states() == ["COMPLETE", "PRUNED"]
    run = sweep.runs()[1]
    assert (run.info.status, run.data.tags["besom.state"]) == ("KILLED", "PRUNED")


def test_a_trial_that_failed_is_tried_again_with_the_same_parameters(sweep: Sweep):
    seen: list[float] = []

    def third_time_lucky(assignment: Assignment) -> Iterator[Message]:
        seen.append(assignment.config["optimizer"]["lr"])
        yield from (crashing, failing, finishing)[len(seen) - 1](assignment)

    board = sweep.run(third_time_lucky, slots=1, n_trials=1, retries=2)
    assert len(set(seen)) == 1
    assert board.attempts == [(0, 0), (0, 1), (0, 2)]
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

    board = sweep.run(by_trial({1: mistaken}, otherwise=failing), slots=1, n_trials=2, retries=1)
    assert sweep.states() == ["FAIL", "FAIL"]
    assert board.attempts == [(0, 0), (0, 1), (1, 0)]


def test_a_trial_that_needs_its_device_alone_keeps_it_and_all_its_retries(sweep: Sweep):
    fates = iter(["memory", "code", "code"])
    running: set[int] = set()

    class Watching(ListeningBoard):
        def started(self, trial: int, slot: Slot, attempt: int = 0) -> None:
            assert not attempt or not running
            running.add(trial)
            super().started(trial, slot, attempt)

        def retrying(self, trial: int, reason: str) -> None:
            running.discard(trial)

        def finished(self, trial: int, *how: Any, **more: Any) -> None:
            running.discard(trial)
            super().finished(trial, *how, **more)

    def unlucky(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        fate = next(fates, None)
        yield completed(assignment.trial, 0.5) if fate is None else failed(assignment.trial, fate, blame=Blame(fate))

    def slow(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        time.sleep(0.02)
        yield completed(assignment.trial, 0.5)

    board = sweep.run(by_trial({0: unlucky}, otherwise=slow), n_trials=6, retries=2, board=Watching())
    assert sweep.states() == ["COMPLETE"] * 6
    assert [attempt for trial, attempt in board.attempts if trial == 0] == [0, 1, 2, 3]


def test_a_trial_that_ran_out_of_memory_is_tried_again_alone_on_its_device(sweep: Sweep):
    gpus = [Device(kind="gpu", name="a GPU", index=index) for index in "01"]
    sweep.slots = [Slot(index=index, devices=(gpus[index // 2],)) for index in range(4)]
    running: dict[int, str] = {}  # trials by their device
    lonely: dict[str, int] = {}

    class Watching(ListeningBoard):
        def started(self, trial: int, slot: Slot, attempt: int = 0) -> None:
            device = slot.device.index
            assert device not in lonely
            if attempt:
                assert device not in running.values()
                lonely[device] = trial
            running[trial] = device
            super().started(trial, slot, attempt)

        def retrying(self, trial: int, reason: str) -> None:
            del running[trial]

        def finished(self, trial: int, *how: Any, **more: Any) -> None:
            device = running.pop(trial)
            if lonely.get(device) == trial:
                del lonely[device]
            super().finished(trial, *how, **more)

    greedy: dict[int, int] = {}

    def hungry(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        greedy[assignment.trial] = greedy.get(assignment.trial, 0) + 1
        if greedy[assignment.trial] == 1:
            yield failed(assignment.trial, "OutOfMemoryError: 80 GiB", blame=Blame.MEMORY)
        else:
            time.sleep(0.05)
            yield completed(assignment.trial, 0.5)

    board = sweep.run(by_trial({1: hungry, 4: hungry}), n_trials=9, board=Watching())
    assert sweep.states() == ["COMPLETE"] * 9
    assert {(1, 1), (4, 1)} <= set(board.attempts)
    assert len(board.attempts) == 11


def test_a_trial_that_has_no_memory_alone_either_has_failed(sweep: Sweep):
    def too_large(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield failed(assignment.trial, "OutOfMemoryError: 80 GiB", blame=Blame.MEMORY)

    board = sweep.run(too_large, slots=2, n_trials=2)
    assert sweep.states() == ["FAIL", "FAIL"]
    assert sorted(board.attempts) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_trial_that_takes_too_long_fails_and_its_slot_gets_a_new_worker(sweep: Sweep):
    board = sweep.run(by_trial({0: stuck}), slots=1, n_trials=2, trial_timeout_s=0.3)
    assert sweep.states() == ["FAIL", "COMPLETE"]
    assert "trial_timeout, 0.3 s" in str(board.reasons[0])
    assert len(sweep.launcher.launched) == 2


def test_a_worker_is_replaced_after_as_many_trials_as_it_may_run(sweep: Sweep):
    sweep.run(finishing, slots=1, n_trials=5, max_trials_per_worker=2)
    assert sweep.states() == ["COMPLETE"] * 5
    assert len(sweep.launcher.launched) == 3


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

    board = sweep.run(play, slots=1, n_trials=4, constraints=("val/loss <= 0.6",))
    assert sweep.states() == ["COMPLETE"] * 4
    assert [board.feasible[trial] for trial in range(4)] == [False, False, True, True]
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
        yield Finished(
            trial=trial, state=State.COMPLETE, duration_s=0.1, outcome=Outcome(values=(trial / 10, trial * 100.0))
        )

    sweep.run(play, slots=1, n_trials=3, objectives=objectives)
    assert [trial.values for trial in sweep.study.trials] == [[0.0, 0.0], [0.1, 100.0], [0.2, 200.0]]
    assert len(sweep.study.best_trials) == 3
    metrics = sweep.runs()[2].data.metrics
    assert (metrics["best/val/acc"], metrics["best/cost/params"]) == (0.2, 200.0)


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
        raise KeyboardInterrupt  # as a kill -9 would, between the one store and the other

    with monkeypatch.context() as killed:
        killed.setattr(StudyBook, "settle", die)
        with pytest.raises(KeyboardInterrupt):
            sweep.run(finishing, slots=1, n_trials=3)
    assert sweep.states() == ["COMPLETE"] * 2
    lost = sweep.study.trials[2]
    assert sweep.runs()[2].info.status == "FINISHED"

    board = sweep.run(finishing, slots=1, n_trials=4)
    assert board.starts == [3]
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
    fate_of: dict[float, str] = {}  # by parameter, which a trial keeps when it comes again

    def play(assignment: Assignment) -> Iterator[Message]:
        rate = assignment.config["optimizer"]["lr"]
        fate = fate_of.setdefault(rate, fates[len(fate_of) % len(fates)])
        yield from PLAYS[fate](assignment)

    def stop(trial: int) -> None:
        if trial == stopped_at:
            signal.raise_signal(signal.SIGINT)

    try:
        sweep.run(play, slots=slots, n_trials=len(fates), board=ListeningBoard(on_start=stop))
    except Interrupted:
        sweep.run(play, slots=slots, n_trials=len(fates))
    trials = finished_trials(sweep.study)
    assert len(trials) == len(sweep.states()) == len(fates)
    for trial in trials:
        fate = fate_of[trial.params["optimizer.lr"]]
        assert trial.state.name == ("COMPLETE" if fate == "COMPLETE" else "FAIL")
