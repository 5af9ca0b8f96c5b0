from __future__ import annotations

import math
import signal
import sqlite3
import threading
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

from besom.errors import BesomError, DataError, Interrupted, StoreError
from besom.sweep.compose import Composer
from besom.sweep.loop import SweepLoop
from besom.sweep.space import SpaceParser
from besom.sweep.study import finished_trials, open_study
from besom.tracking.nothing import NoRecorder
from besom.tracking.recorder import Recorder
from besom.tracking.store import Location
from besom.workers.messages import Assignment, Finished, Message, State
from besom.workers.pool import WorkerPool
from tests.conftest import App
from tests.fakes import (
    Board,
    FakeLauncher,
    Play,
    completed,
    cpu_slots,
    crashing,
    crashing_at_once,
    failing,
    finishing,
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

    def run(self, play: Play, *, slots: int = 2, ready: bool = True, board: Board | None = None, **spec: Any) -> Board:
        self.launcher = FakeLauncher(play, ready=ready)
        self.board = board or Board()
        wanted = self.make_spec(**spec)
        space, fixed = SpaceParser(self.app[0], source="digits.yaml").space(self.params, {})
        directory = self.location.directory
        recorder = Recorder(self.location, "digits") if self.tracked else NoRecorder()
        pool = WorkerPool(cpu_slots(slots), logs=directory / "logs", launcher=self.launcher)
        with pool, recorder, open_study(wanted, space, directory) as book:
            self.loop = SweepLoop(
                spec=wanted,
                book=book,
                composer=Composer(*self.app, fixed=fixed),
                pool=pool,
                recorder=recorder,
                board=self.board,
                scratch=directory / "scratch",
                tags={"besom.study": "digits"},
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
        assert all(run.info.status != "RUNNING" for run in runs)
        return {int(run.data.tags["besom.trial"]): run for run in runs}

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
    yield Finished(
        trial=assignment.trial,
        state=State.FAIL,
        duration_s=0.1,
        reason="no such file",
        user_error=True,
        data_error=True,
    )


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


def test_ctrl_c_puts_back_what_trains_and_the_same_command_completes_the_sweep(sweep: Sweep):
    never = threading.Event()

    def endless(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield reported(assignment.trial, 0, val_acc=0.25)
        never.wait(PATIENCE_S)

    class Impatient(Board):
        def reported(self, trial: int, epoch: int, value: float | None) -> None:
            if trial == 2:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        sweep.run(by_trial({2: endless}), board=Impatient(), slots=1)
    assert sweep.states() == ["COMPLETE", "COMPLETE"]
    killed = sweep.runs()[2]
    assert (killed.info.status, killed.data.tags["besom.state"]) == ("KILLED", "INTERRUPTED")
    assert killed.data.metrics["val/acc"] == 0.25
    interrupted = sweep.study.trials[2].params

    board = sweep.run(finishing, slots=1)
    assert sweep.states() == ["COMPLETE"] * 4
    assert sweep.study.trials[board.starts[0]].params == interrupted
    assert sorted(run.info.status for run in sweep.runs().values()) == ["FINISHED"] * 4 + ["KILLED"]
    sweep.run(finishing)
    assert len(sweep.states()) == 4


def test_a_trial_that_was_stopped_before_its_worker_said_a_word_leaves_no_run(sweep: Sweep):
    never = threading.Event()

    def mute(assignment: Assignment) -> Iterator[Message]:
        never.wait(PATIENCE_S)
        yield from finishing(assignment)

    with pytest.raises(Interrupted):
        sweep.run(mute, slots=1, board=Board(on_start=lambda trial: signal.raise_signal(signal.SIGTERM)))
    assert sweep.states() == []
    assert sweep.runs() == {}
    assert list((sweep.location.directory / "scratch").iterdir()) == []


def test_the_second_ctrl_c_ends_the_sweep_at_once(sweep: Sweep):
    def twice(trial: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sweep.run(finishing, board=Board(on_start=twice))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


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
        sweep.run(play, slots=slots, n_trials=len(fates), board=Board(on_start=stop))
    except Interrupted:
        sweep.run(play, slots=slots, n_trials=len(fates))
    trials = finished_trials(sweep.study)
    assert len(trials) == len(sweep.states()) == len(fates)
    for trial in trials:
        fate = fate_of[trial.params["optimizer.lr"]]
        assert trial.state.name == ("COMPLETE" if fate == "COMPLETE" else "FAIL")
