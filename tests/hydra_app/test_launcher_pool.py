"""Jobs through another Hydra launcher: launched batches and their events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

import besom
from besom.hydra_app.job import unpack_job
from besom.hydra_app.launcher_pool import LauncherPool, uses_launcher
from besom.workers.messages import Assignment, Blame, Bundle, Finished, Started, State
from tests.fakes import cpu_slots
from tests.hydra_app.conftest import App

MakeApp = Callable[..., App]


@dataclass
class Noting(Launcher):
    """Hydra's basic launcher, which runs jobs in this process, one by one; it stores the arguments of its calls."""

    inner: BasicLauncher = field(default_factory=BasicLauncher)
    batches: list[tuple[int, Sequence[Sequence[str]]]] = field(default_factory=list)

    def setup(self, **what: Any) -> None:
        self.inner.setup(**what)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        self.batches.append((initial_job_idx, [list(one) for one in job_overrides]))
        return self.inner.launch([list(one) for one in job_overrides], initial_job_idx)


@dataclass
class Launched:
    pool: LauncherPool
    launcher: Noting
    folder: Path

    def submit(self, *jobs: tuple[int, Sequence[str]]) -> list[Any]:
        for slot, (trial, overrides) in zip(self.pool.idle(), jobs, strict=False):
            directory = self.folder / "scratch" / str(trial)
            directory.mkdir(parents=True)
            assignment = Assignment(trial=trial, overrides=tuple(overrides), directory=directory)
            self.pool.submit(slot, Bundle(assignments=(assignment,)))
        return list(self.pool.events(timeout_s=0.1))


def launched(app: App, function: Callable[[DictConfig], Any], *, slots: int = 2) -> Launched:
    launcher = Noting()
    launcher.setup(hydra_context=app.context, task_function=function, config=app.config)
    return Launched(LauncherPool(launcher, cpu_slots(slots), metrics=("value",)), launcher, app.folder)


def test_batch_goes_out_at_once_and_comes_back_job_by_job(hydra_app: MakeApp) -> None:
    batch = launched(hydra_app(), lambda config: config.lr)
    first, one, second, two = batch.submit((1, ["lr=2"]), (0, ["lr=1"]))

    assert batch.launcher.batches == [(0, [["lr=1"], ["lr=2"]])]
    assert isinstance(first, Started)
    assert first.about["config"] == {"lr": 1, "model": {"depth": 2}, "name": "theirs-0"}
    assert first.about["output"] == str(batch.folder / "sweep" / "0")
    assert isinstance(second, Started)
    assert [(over.trial, over.result.state, over.result.values) for over in (one, two)] == [
        (0, State.COMPLETE, (1.0,)),
        (1, State.COMPLETE, (2.0,)),
    ]
    assert unpack_job(two.result.job).overrides == ["lr=2"]
    kept = {path.name for path in (batch.folder / "scratch" / "0" / ".hydra").iterdir()}
    assert kept == {"config.yaml", "hydra.yaml", "overrides.yaml"}


def test_nothing_is_launched_while_nothing_is_collected(hydra_app: MakeApp) -> None:
    batch = launched(hydra_app(), lambda config: config.lr)
    assert list(batch.pool.events(timeout_s=0.1)) == []
    assert batch.launcher.batches == []
    batch.submit((0, []))
    assert list(batch.pool.events(timeout_s=0.1)) == []
    assert len(batch.launcher.batches) == 1


def test_slots_are_busy_until_the_batch_is_back(hydra_app: MakeApp) -> None:
    batch = launched(hydra_app(), lambda config: config.lr)
    slot, other = batch.pool.idle()
    assignment = Assignment(trial=0, overrides=(), directory=batch.folder)
    batch.pool.submit(slot, Bundle(assignments=(assignment,)))
    assert batch.pool.idle() == [other]
    list(batch.pool.events(timeout_s=0.1))
    assert batch.pool.idle() == [slot, other]


def test_trials_that_are_taken_up_again_keep_their_own_numbers(hydra_app: MakeApp) -> None:
    batch = launched(hydra_app(), lambda config: config.lr, slots=3)
    batch.submit((3, ["lr=3"]), (7, ["lr=7"]), (8, ["lr=8"]))
    assert batch.launcher.batches == [(3, [["lr=3"]]), (7, [["lr=7"], ["lr=8"]])]
    assert {path.name for path in (batch.folder / "sweep").iterdir()} >= {"3", "7", "8"}


def test_job_that_fails_does_not_take_its_batch_along(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        if config.lr > 1:
            raise RuntimeError("too high")
        return 0.5

    events = launched(hydra_app(), task).submit((0, ["lr=2"]), (1, ["lr=1"]))
    failed, complete = (event for event in events if isinstance(event, Finished))
    assert failed.result.failure.reason == "RuntimeError: too high"
    assert "in task" in failed.result.failure.traceback
    assert complete.result.values == (0.5,)


def test_job_that_prunes_itself_is_pruned(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        raise besom.TrialPruned

    *_, over = launched(hydra_app(), task).submit((0, []))
    assert over.result.state is State.PRUNED


def test_report_says_nothing_where_nobody_listens(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        besom.report(1.0, step=1)
        return 0.0

    events = launched(hydra_app(), task).submit((0, []))
    assert [type(event) for event in events] == [Started, Finished]


def test_return_value_that_is_no_number_fails_in_one_line(hydra_app: MakeApp) -> None:
    *_, over = launched(hydra_app(), lambda config: None).submit((0, []))
    assert over.result.failure.reason == "the task function returned None; return a number"
    assert over.result.failure.blame is Blame.USER


def test_batch_that_cannot_be_launched_fails_whole(hydra_app: MakeApp) -> None:
    events = launched(hydra_app(), lambda config: 0.0).submit((0, ["lr=1"]), (1, ["nowhere=1"]))
    assert [(event.trial, event.result.state) for event in events] == [(0, State.FAIL), (1, State.FAIL)]
    assert "nowhere" in events[0].result.failure.reason


@pytest.mark.parametrize(("chosen", "other"), [("basic", False), ("joblib", True), ("submitit_local", True)])
def test_only_hydras_basic_launcher_is_no_other_launcher(hydra_app: MakeApp, chosen: str, other: bool) -> None:
    assert uses_launcher(hydra_app("lr: 0.1\n", f"hydra/launcher={chosen}").config) is other
