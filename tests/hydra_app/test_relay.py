"""Reports from the child processes of a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from besom.workers.messages import Reported, State
from tests.hydra_app.conftest import App

MakeApp = Callable[..., App]

THEIRS = """\
import os
import time

import besom


def rank(number, steps):
    os.environ["LOCAL_RANK"] = str(number)
    for step in range(1, (2 if number else steps) + 1):
        besom.report({"acc": step + number}, step=step)
        time.sleep(0.01)
    try:
        besom.report("much", step=steps + 1)
    except ValueError as error:
        besom.report(float("is 'much'; give a number" in str(error)), step=steps + 2)


def start(method, steps):
    import multiprocessing

    context = multiprocessing.get_context(method)
    ranks = [context.Process(target=rank, args=(number, steps)) for number in range(2)]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join()
    return [each.exitcode for each in ranks]
"""


@pytest.fixture
def theirs(hydra_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    (tmp_path / "their_ranks.py").write_text(THEIRS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return hydra_app()


def task(config: DictConfig) -> float:
    import their_ranks

    return float(any(their_ranks.start(config.method, config.steps)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_reports_of_the_first_rank_are_heard_and_errors_reach_it(theirs: App, method: str) -> None:
    (job,) = theirs.run(task, [f"+method={method}", "+steps=2"])
    assert [(report.moment.step, report.metrics) for report in job.reported] == [
        (1, {"acc": 1.0}), (2, {"acc": 2.0}), (4, {"value": 1.0}),
    ]  # fmt: skip
    assert job.result.values == (0.0,)


def test_stop_reaches_the_child_process(theirs: App) -> None:
    with theirs.pool(task) as pool:

        def stop(reported: Reported) -> None:
            if reported.moment.step == 3:
                pool.stop(pool.slots[0], 0, at_once=False)

        job = theirs.job(pool, 0, ["+method=fork", "+steps=100000"], stop)
        assert job.result.state is State.COMPLETE
        assert job.result.values == (1.0,)  # its child process ended with TrialPruned
