"""Sweeps stopped by ctrl-C, and resumed by the same command."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
from optuna.trial import TrialState

from besom.errors import Interrupted, StoreError
from besom.sweep.progress.events import Dispatched, Ended, StopRequested, SweepEvent
from besom.system.interrupts import Stop, ending_in_order, interrupts
from besom.tracking.recorder.outbox import KeptRuns
from besom.tracking.recorder.recorder import Recorder
from besom.workers.messages import Assignment, Message
from tests.fakes import (
    ListeningObserver,
    Play,
    completed,
    finishing,
    reported,
    started,
)
from tests.sweep.sweeps import PATIENCE_S, Impatient, Sweep, by_trial, epoch_after_epoch, stuck


@pytest.mark.parametrize(("play", "times"), [(epoch_after_epoch, 1), (stuck, 2)])
def test_ctrl_c_leaves_true_states_and_the_same_command_completes_the_sweep(sweep: Sweep, play: Play, times: int):
    with pytest.raises(Interrupted):
        sweep.run(by_trial({2: play}), observer=Impatient(trial=2, times=times), slots=1)
    assert sweep.observer.requeued == [2]
    assert sweep.states() == ["COMPLETE", "COMPLETE"]
    killed = sweep.runs()[2]
    assert (killed.info.status, killed.data.tags["besom.state"]) == ("KILLED", "INTERRUPTED")
    assert killed.data.metrics["val/acc"] == 0.25
    interrupted = sweep.study.trials[2]
    assert interrupted.state is TrialState.WAITING

    observer = sweep.run(finishing, slots=1)
    assert sweep.states() == ["COMPLETE"] * 4
    assert observer.starts == [2, 3]
    assert sweep.study.trials[2].params == interrupted.params
    assert [run.info.status for run in sweep.all_runs()] == ["FINISHED", "FINISHED", "KILLED", "FINISHED", "FINISHED"]
    sweep.run(finishing)
    assert len(sweep.states()) == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_where_nobody_listens_a_signal_ends_what_waits_as_ctrl_c_does(number: signal.Signals):
    before = signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        with ending_in_order():
            with interrupts() as stop:
                signal.raise_signal(number)
            assert stop.asked
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_closes_stops_a_sweep_in_order_but_not_under_nohup(sweep: Sweep, ignored: bool):
    def hang_up(event: SweepEvent) -> None:
        if isinstance(event, Ended) and event.trial == 1:
            signal.raise_signal(signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with nullcontext() if ignored else pytest.raises(Interrupted):
            sweep.run(finishing, slots=1, observer=ListeningObserver(on_event=hang_up))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert sweep.states() == ["COMPLETE"] * (4 if ignored else 2)


def test_a_trial_that_ends_with_the_epoch_in_which_it_is_stopped_is_complete(sweep: Sweep):
    def last_epoch(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield reported(assignment.trial, 1, val_acc=0.5)
        assert noticed.wait(PATIENCE_S)
        yield completed(assignment.trial, 0.5)
        through.set()

    def notice(event: SweepEvent) -> None:
        if isinstance(event, StopRequested):
            noticed.set()
            assert through.wait(PATIENCE_S)  # before the worker receives the stop request

    noticed, through = threading.Event(), threading.Event()
    with pytest.raises(Interrupted):
        sweep.run(last_epoch, observer=Impatient(on_event=notice), slots=1)
    assert sweep.states() == ["COMPLETE"]
    assert [run.info.status for run in sweep.all_runs()] == ["FINISHED"]


def test_a_trial_that_was_stopped_before_its_worker_said_a_word_leaves_no_run(sweep: Sweep):
    def mute(assignment: Assignment) -> Iterator[Message]:
        threading.Event().wait(PATIENCE_S)
        yield from finishing(assignment)

    def press(event: SweepEvent) -> None:
        if isinstance(event, Dispatched):
            observer.press()

    observer = Impatient(times=2, on_event=press)
    with pytest.raises(Interrupted):
        sweep.run(mute, slots=1, observer=observer)
    assert sweep.states() == []
    assert sweep.runs() == {}
    assert list((sweep.location.directory / "scratch").iterdir()) == []


def test_two_ctrl_cs_before_the_loop_could_look_end_the_process(sweep: Sweep):
    def twice(event: SweepEvent) -> None:
        if isinstance(event, Dispatched):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(finishing, observer=ListeningObserver(on_event=twice))
    assert signal.getsignal(signal.SIGINT) == before
    assert TrialState.RUNNING not in [trial.state for trial in sweep.study.trials]


@pytest.mark.parametrize("tracked", [True, False])
def test_what_was_over_before_the_process_was_ended_stays_over(sweep: Sweep, tracked: bool):
    def leave(event: SweepEvent) -> None:
        if isinstance(event, Ended):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    sweep.tracked = tracked
    with pytest.raises(KeyboardInterrupt):
        sweep.run(finishing, slots=1, observer=ListeningObserver(on_event=leave))
    assert sweep.states() == ["COMPLETE"]
    assert [run.info.status for run in sweep.all_runs()] == ["FINISHED"] * tracked


def test_a_ctrl_c_that_finds_nothing_left_to_do_interrupts_nothing(sweep: Sweep):
    def press(event: SweepEvent) -> None:
        if isinstance(event, Ended) and event.trial == 1:
            signal.raise_signal(signal.SIGINT)

    sweep.run(finishing, slots=1, n_trials=2, observer=ListeningObserver(on_event=press))
    assert sweep.states() == ["COMPLETE"] * 2


@pytest.mark.parametrize("stopped", [True, False])
def test_what_is_kept_for_a_server_that_is_away_is_over_in_the_study_and_the_sweep_says_so(sweep: Sweep, stopped: bool):
    class Away(Recorder):
        def ended(self) -> list[int]:
            return []

        def wait(self, stop: Stop, notice: Callable[[str], None]) -> KeptRuns:
            if stopped:
                signal.raise_signal(signal.SIGTERM)
            error = StoreError("no tracking server answers there", trouble="unreachable")
            return KeptRuns(trials=[0, 1], error=error)

    sweep.tracked, sweep.recorder = False, Away(None, "digits")
    with pytest.raises(Interrupted if stopped else StoreError):
        sweep.run(finishing, slots=1, n_trials=2)
    assert sweep.states() == ["COMPLETE"] * 2
    assert "2 runs are not recorded yet, since the tracking server is away" in sweep.observer.warnings[0]
