"""The output and the log of a running sweep."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from besom.config.objectives import Objective
from besom.errors import StoreError
from besom.sweep.progress.counts import TrialCounts
from besom.sweep.progress.display import LiveObserver, sweep_observer
from besom.sweep.progress.events import (
    Dispatched,
    Ended,
    Observer,
    Polled,
    Requeued,
    Retried,
    StopRequested,
    SweepEvent,
)
from besom.sweep.progress.live_view import clock, draw, spark
from besom.sweep.spec import SweepSpec
from besom.workers.devices import Device, Slot
from besom.workers.messages import Failure, State, TrialResult
from tests.fakes import reported
from tests.sweep.specs import sweep_spec

ACCURACY = Objective(name="val/acc", direction="maximize")
SIZE = Objective(name="cost/params", direction="minimize")
SLOTS = [Slot(index=index, devices=(Device(kind="gpu", name="a GPU", index="0"),)) for index in range(3)]
PARAMS = {"model": "mlp_classifier", "optimizer.lr": 0.012345, "model.hidden_sizes": [64, 64]}


def spec(*objectives: Objective, **changes: Any) -> SweepSpec:
    usual: dict[str, Any] = {"study_name": "own", "source": "own.yaml", "n_trials": 10}
    return sweep_spec(objectives=objectives or (ACCURACY,), **{**usual, **changes})


def watch(
    screen: Console, spec: SweepSpec, *, log: Path, study: optuna.Study | None = None
) -> AbstractContextManager[Observer]:
    study = study or optuna.create_study(directions=[objective.direction for objective in spec.search.objectives])
    return sweep_observer(screen, spec, SLOTS, study, total=spec.budget.n_trials, log=log)


def console(*, width: int = 80, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=width, height=30, force_terminal=terminal, color_system=None)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def play(observer: Observer) -> None:
    """Pass every kind of event to an observer."""
    events: list[SweepEvent] = [
        Dispatched(trial=0, slot=SLOTS[0]),
        reported(0, 1, val_acc=0.5),
        complete(0, 0.75),
        Dispatched(trial=1, slot=SLOTS[1]),
        Retried(trial=1, reason="worker died"),
        Dispatched(trial=1, slot=SLOTS[1], attempt=1),
        failed(1, "ValueError: see postgresql://me:secret@host/db\nand more"),
        Dispatched(trial=2, slot=SLOTS[2]),
        reported(2, 3, val_acc=0.1),
        Ended(trial=2, result=TrialResult(state=State.PRUNED), reached=3),
        Dispatched(trial=3, slot=SLOTS[0]),
        complete(3, 0.99, feasible=False),
        Dispatched(trial=4, slot=SLOTS[0]),
        Dispatched(trial=5, slot=SLOTS[1]),
        StopRequested(),
        Requeued(trial=5),
        Requeued(trial=4),
    ]
    for event in events:
        observer(event)


def complete(trial: int, *values: float, feasible: bool = True) -> Ended:
    constraints = {"val/loss <= 1": -0.5 if feasible else 0.5}
    return Ended(trial=trial, result=TrialResult(values=values, constraints=constraints))


def failed(trial: int, reason: str) -> Ended:
    return Ended(trial=trial, result=TrialResult(state=State.FAIL, failure=Failure(reason=reason)))


# Not a terminal.


def test_a_line_is_written_for_each_trial_where_there_is_no_terminal(tmp_path: Path) -> None:
    screen = console()
    with watch(screen, spec(), log=tmp_path / "sweep.log") as observer:
        play(observer)
    assert shown(screen).splitlines() == [
        "trial    0  val/acc 0.7500   [1/10, best 0.7500 (trial 0)]",
        "trial    1  failed and is run again: worker died",
        "trial    1  FAILED: ValueError: see postgresql://me:***@host/db and more   [2/10, best 0.7500 (trial 0)]",
        "trial    2  pruned after epoch 3   [3/10, best 0.7500 (trial 0)]",
        "trial    3  val/acc 0.9900, infeasible   [4/10, best 0.7500 (trial 0)]",
        "stopping: what runs may finish its epoch; ctrl-C again stops at once",
        "put back, for the same command to take up: trials 4, 5",
    ]


def test_several_objectives_are_all_shown_and_the_front_is_counted(tmp_path: Path) -> None:
    screen = console()
    with watch(screen, spec(ACCURACY, SIZE), log=tmp_path / "sweep.log") as observer:
        for trial, values in enumerate([(0.9, 5000.0), (0.8, 100.0), (0.7, 200.0)]):
            observer(complete(trial, *values))
    *_, second, third = shown(screen).splitlines()
    assert second == "trial    1  val/acc 0.8000  cost/params 100   [2/10, 2 on the Pareto front]"
    assert third.endswith("[3/10, 2 on the Pareto front]")


def test_what_an_earlier_part_of_the_sweep_did_counts(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trial(optuna.create_trial(value=0.875))
    study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.FAIL))
    study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.WAITING))
    screen = console()
    with watch(screen, spec(), log=tmp_path / "sweep.log", study=study) as observer:
        observer(complete(2, 0.5))
    assert shown(screen) == "trial    2  val/acc 0.5000   [3/10, best 0.8750 (trial 0)]\n"


def test_quiet_shows_nothing_but_the_answer_to_ctrl_c_and_still_logs(tmp_path: Path) -> None:
    screen = console(terminal=True)
    with watch(screen, spec(quiet=True), log=tmp_path / "sweep.log") as observer:
        play(observer)
        observer(Polled())
    assert shown(screen) == "stopping: what runs may finish its epoch; ctrl-C again stops at once\n"
    assert "trial 0 finished" in (tmp_path / "sweep.log").read_text(encoding="utf-8")


# The log file.


def test_every_event_is_logged_with_its_time_and_without_a_password(tmp_path: Path) -> None:
    log = tmp_path / "logs/own/sweep.log"
    for _ in range(2):
        with watch(console(), spec(), log=log) as observer:
            play(observer)
            assert "trial 4 started" in log.read_text(encoding="utf-8"), "it is written at once"
    text = log.read_text(encoding="utf-8")
    lines = [line.partition("  ")[2] for line in text.splitlines()]
    assert all(line[:4].isdigit() and line[10] == " " for line in text.splitlines())
    first = lines[: len(lines) // 2]
    assert first[0].startswith("sweep own begins: maximize val/acc; process ")
    assert first[1:] == [
        "trial 0 started in slot 0 on gpu:0 (a GPU)",
        "trial 0 finished: val/acc 0.7500",
        "trial 1 started in slot 1 on gpu:0 (a GPU)",
        "trial 1 failed and is run again: worker died",
        "trial 1 started in slot 1 on gpu:0 (a GPU), attempt 2",
        "trial 1 FAILED: ValueError: see postgresql://me:***@host/db and more",
        "trial 2 started in slot 2 on gpu:0 (a GPU)",
        "trial 2 pruned after epoch 3",
        "trial 3 started in slot 0 on gpu:0 (a GPU)",
        "trial 3 finished: val/acc 0.9900, infeasible",
        "trial 4 started in slot 0 on gpu:0 (a GPU)",
        "trial 5 started in slot 1 on gpu:0 (a GPU)",
        "asked to stop",
        "interrupted, for the same command to take up: trial 5",
        "interrupted, for the same command to take up: trial 4",
        "sweep own ends",
    ]
    assert "secret" not in text


def test_an_error_that_ends_the_sweep_is_logged(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError),
        watch(console(), spec(), log=tmp_path / "sweep.log"),
    ):
        raise StoreError("the database is gone")
    assert (tmp_path / "sweep.log").read_text(encoding="utf-8").endswith("ends: StoreError the database is gone\n")


def test_a_log_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with (
        pytest.raises(StoreError, match=r"sweep\.log: cannot be written"),
        watch(console(), spec(), log=tmp_path / "logs/sweep.log"),
    ):
        pass


# The live view.


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def picture(counts: TrialCounts, *, width: int = 80, height: int = 30, slots: Sequence[Slot] = SLOTS) -> list[str]:
    screen = console(width=width)
    screen.print(draw(counts, title="own", slots=slots, limit=20, best_params=PARAMS, note="", height=height))
    return [line.rstrip() for line in shown(screen).splitlines()]


@pytest.fixture
def busy() -> tuple[TrialCounts, Clock]:
    """Return counts with six trials done in a minute and two running."""
    now = Clock()
    counts = TrialCounts([ACCURACY], total=12, timeout_s=None, clock=now)
    for trial in range(6):
        counts.update(Dispatched(trial=trial, slot=SLOTS[trial % 3]))
        now.now += 10
        counts.update(failed(trial, "no luck") if trial == 4 else complete(trial, 0.5 + trial / 100))
    counts.update(Dispatched(trial=6, slot=SLOTS[0]))
    counts.update(Dispatched(trial=7, slot=SLOTS[1], attempt=1))
    counts.update(reported(6, 4, val_acc=0.31))
    counts.update(reported(7, 20, val_acc=0.9))
    return counts, now


@pytest.mark.parametrize("width", [80, 140])
def test_the_view_shows_counts_pace_best_and_what_runs_in_each_slot(
    busy: tuple[TrialCounts, Clock], width: int
) -> None:
    title, counts, best, gap, heading, *rows = picture(busy[0], width=width)
    assert title.startswith("own  maximize val/acc")
    assert title.endswith("6 trials/min  1:00 left")
    assert counts.endswith("6/12 done  2 running  1 failed")
    assert best.startswith("best 0.5500  trial 5  mlp_classifier  lr=0.0123")
    assert best.endswith("▁▂▄▅█")
    assert not gap
    assert heading.split() == ["slot", "trial", "time", "epoch", "val/acc"]
    assert [row.replace("━", "").replace("╺", "").replace("╸", "").split() for row in rows] == [
        ["0", "gpu:0", "6", "0:00", "4/20", "0.3100"],
        ["1", "gpu:0", "7", "0:00", "20/20", "0.9000", "▲", "best", "so", "far", "attempt", "2"],
        ["2", "gpu:0", "·"],
    ]
    assert max(map(len, [title, counts, best, *rows])) <= width


def test_time_left_is_by_the_count_or_by_the_clock_whichever_ends_first() -> None:
    now = Clock()
    for timeout_s, left_s in ((None, 80.0), (25.0, 5.0), (500.0, 80.0)):
        counts = TrialCounts([ACCURACY], total=10, timeout_s=timeout_s, clock=now)
        for trial in range(2):
            counts.update(Dispatched(trial=trial, slot=SLOTS[0]))
            now.now += 10
            counts.update(complete(trial, 0.5))
        assert counts.left_s == pytest.approx(left_s)


def test_the_pace_is_that_of_the_last_trials() -> None:
    now = Clock()
    counts = TrialCounts([ACCURACY], total=None, clock=now)
    for trial in range(100):
        counts.update(Dispatched(trial=trial, slot=SLOTS[0]))
        now.now += 1000 if trial < 50 else 1
        counts.update(complete(trial, 0.5))
    assert counts.per_minute == pytest.approx(60)
    assert counts.left_s is None


def test_a_board_of_more_slots_than_lines_keeps_to_the_screen_and_shows_the_busy_ones() -> None:
    slots = [Slot(index=index, devices=(Device(kind="cpu", name="a CPU"),)) for index in range(64)]
    counts = TrialCounts([ACCURACY], total=100)
    counts.update(Dispatched(trial=0, slot=slots[63]))
    lines = picture(counts, height=24, slots=slots)
    assert len(lines) <= 24
    assert lines[-2].startswith("63  cpu")
    assert lines[-1].startswith("… and ")


def test_a_bundle_is_one_line_the_best_of_its_trials_and_how_many_others() -> None:
    counts = TrialCounts([ACCURACY], total=10)
    for trial in range(4):
        counts.update(Dispatched(trial=trial, slot=SLOTS[0]))
        counts.update(reported(trial, 3, val_acc=trial / 10))
    counts.update(Dispatched(trial=9, slot=SLOTS[1]))
    bundle, alone = picture(counts, slots=SLOTS[:2])[-2:]
    assert bundle.split()[2:4] == ["3", "+3"]
    assert "0.3000" in bundle
    assert alone.split()[2] == "9"
    assert "+" not in alone


def test_before_the_first_epoch_the_board_says_that_workers_start() -> None:
    lines = picture(TrialCounts([ACCURACY], total=12))
    assert lines[0].endswith("workers are starting …")
    assert lines[2] == "best  none yet"


def test_a_failure_scrolls_by_above_the_board_and_the_same_one_over_and_over_does_not() -> None:
    screen = console(terminal=True)
    with LiveObserver(screen, TrialCounts([ACCURACY], total=100), title="own", slots=SLOTS) as observer:
        for trial in range(20):
            observer(Dispatched(trial=trial, slot=SLOTS[0]))
            observer(failed(trial, f"RuntimeError: no luck with {trial}.5"))
        observer(failed(20, "another"))
    out = shown(screen)
    assert "trial 0 failed: RuntimeError: no luck with 0.5" in out
    assert out.count("no luck") == 3
    assert "trial 20 failed: another" in out


def test_the_best_ones_parameters_are_asked_for_once() -> None:
    asked: list[int] = []

    def params_of(trial: int) -> dict[str, Any]:
        asked.append(trial)
        return PARAMS

    counts = TrialCounts([ACCURACY], total=10)
    with LiveObserver(console(terminal=True), counts, title="own", slots=SLOTS, params_of=params_of) as observer:
        for trial, value in enumerate((0.5, 0.4, 0.6)):
            observer(complete(trial, value))
            observer(StopRequested())  # redraws at once
            observer(StopRequested())
    assert asked == [0, 2]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([1.0], ""),
        ([1.0, 1.0], "▁▁"),
        ([float(value) for value in range(8)], "▁▂▃▄▅▆▇█"),
        ([1e6, 1e3, 1.0], "█▅▁"),
        ([float(value) for value in range(100)], "▁▂▃▄▅▆▇█"),
        ([float("-inf"), 1.0], "▁▁"),
    ],
)
def test_a_spark_line_shows_a_course_within_its_width(values: list[float], line: str) -> None:
    assert spark(values, 8) == line


@pytest.mark.parametrize(("seconds", "text"), [(7.9, "0:07"), (754, "12:34"), (3723, "1:02:03")])
def test_a_time_reads_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize("terminal", [False, True])
def test_first_failure_of_a_cause_shows_its_traceback_and_where_to_read_more(terminal: bool, tmp_path: Path) -> None:
    frames = '  File "a.py", line 1, in main\n    f(1)\n    ~~^^\n  File "b.py", line 2, in f\n    1 / 0\n    ~~^~~\n'
    traceback = f"Traceback (most recent call last):\n{frames}  raised here\nNo: 0\n"
    result = TrialResult(state=State.FAIL, failure=Failure(reason="ZeroDivisionError: division", traceback=traceback))
    screen = console(terminal=terminal)
    with watch(screen, spec(), log=tmp_path / "sweep.log") as observer:
        for trial in range(2):
            observer(Ended(trial=trial, result=result, log=Path("logs/worker-0.log"), folder=f"multirun/{trial}"))
    text = shown(screen)
    assert text.count('  File "b.py", line 2, in f') == text.count("No: 0") == 1
    assert 'File "a.py"' not in text
    assert "^^" not in text
    assert "    log: logs/worker-0.log; folder: multirun/0" in text
    assert "multirun/1" not in text
