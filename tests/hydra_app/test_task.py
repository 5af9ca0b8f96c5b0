"""The jobs of another Hydra app in a real worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf

import besom
from besom.errors import ConfigError
from besom.hydra_app.job import read_values, unpack_job
from besom.workers.devices import Device, Slot
from besom.workers.messages import Blame, State
from besom.workers.pool import WorkerPool
from tests.hydra_app.conftest import App, Job

MakeApp = Callable[..., App]


def returned(job: Job) -> JobReturn:
    assert job.result is not None
    assert job.result.job is not None, job.result
    return unpack_job(job.result.job)


def test_job_runs_with_its_overrides_and_its_number(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        return float(config.lr * 10 + HydraConfig.get().job.num)

    first, second = hydra_app().run(task, ["lr=0.5"], ["lr=0.25", "+more=true"])

    assert first.result.values == (5.0,)
    assert second.result.values == (3.5,)
    job = returned(second)
    assert job.overrides == ["lr=0.25", "+more=true"]
    assert (job.cfg.lr, job.cfg.more) == (0.25, True)
    assert job.return_value == 3.5
    assert job.hydra_cfg.hydra.job.id == "1"


def test_hydra_writes_a_folder_for_each_job(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        import logging

        logging.getLogger("theirs").info("lr is %s", config.lr)
        return 0.0

    app = hydra_app()
    app.run(task, ["lr=0.5"], ["lr=0.25"])

    folder = app.folder / "sweep" / "1"
    assert "lr is 0.25" in (folder / "theirs.log").read_text(encoding="utf-8")
    assert OmegaConf.load(folder / ".hydra" / "overrides.yaml") == ["lr=0.25"]
    assert "lr is 0.25" not in (app.folder / "sweep" / "0" / "theirs.log").read_text(encoding="utf-8")
    kept = sorted(path.name for path in (app.folder / "scratch" / "1" / ".hydra").iterdir())
    assert kept == ["config.yaml", "hydra.yaml", "overrides.yaml"]


def test_recorder_is_told_of_the_config_and_where_the_job_runs(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        return 0.0

    app = hydra_app()
    (job,) = app.run(task, ["model.depth=5"])

    about = job.started.about
    assert about["config"] == {"lr": 0.1, "model": {"depth": 5}, "name": "theirs-0"}
    assert about["output"] == str(app.folder / "sweep" / "0")
    assert about["threads"] == 1
    assert "python" in about["versions"]


def test_config_that_cannot_be_resolved_is_told_as_it_is_written(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        return float(config.lr)

    config = "lr: 0.1\nunread: ???\nbroken: ${nowhere}\nserver: https://me:secret@host/\n"
    (job,) = hydra_app(config).run(task, [])

    told = job.started.about["config"]
    assert told == {
        "lr": 0.1,
        "unread": "???",
        "broken": "${nowhere}",
        "server": "https://me:${oc.env:BESOM_SECRET_SERVER}@host/",
    }
    assert job.result.values == (0.1,)


def test_job_finds_the_working_directory_as_it_was(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        found = Path.cwd()
        os.chdir("/")
        return float(found == Path(config.home))

    app = hydra_app()
    where = f"+home={app.folder}"
    first, second = app.run(task, [where], [where])
    assert first.result.values == second.result.values == (1.0,)


def test_job_may_ask_for_its_output_folder_as_working_directory(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        Path("mine.txt").write_text("x", encoding="utf-8")
        return 0.0

    app = hydra_app(
        """\
        hydra:
          job:
            chdir: true
        """
    )
    app.run(task, [], [])
    assert (app.folder / "sweep" / "1" / "mine.txt").exists()


@dataclass
class Scaled:
    factor: float

    def __call__(self, config: DictConfig) -> float:
        return self.factor * config.lr


def test_task_may_be_an_object_that_can_be_called(hydra_app: MakeApp) -> None:
    (job,) = hydra_app().run(Scaled(3.0), ["lr=2"])
    assert job.result.values == (6.0,)


def test_resolvers_of_the_app_are_there(hydra_app: MakeApp) -> None:
    OmegaConf.register_new_resolver("twice", lambda number: 2 * number)

    (job,) = hydra_app("lr: 0.1\ndouble: ${twice:${lr}}\n").run(lambda config: config.double, ["lr=4"])
    assert job.result.values == (8.0,)


def test_module_beside_the_script_is_found(hydra_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = hydra_app()
    package = app.folder / "elsewhere"
    package.mkdir()
    (package / "their_module.py").write_text("def task(config):\n    return config.lr\n", encoding="utf-8")
    monkeypatch.syspath_prepend(package)
    import their_module

    (job,) = app.run(their_module.task, ["lr=7"])
    assert job.result.values == (7.0,)


def test_report_is_sent_whatever_the_sweep_has_imported(hydra_app: MakeApp) -> None:
    import besom.reports.text.leaderboard  # a package of the same name

    def task(config: DictConfig) -> float:
        besom.report(config.lr, step=1)
        return 0.0

    (job,) = hydra_app().run(task, ["lr=2"])
    assert [reported.metrics for reported in job.reported] == [{"value": 2.0}]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "the task function returned None; return a number"),
        ("0.5", "the task function returned '0.5' (str); return a number"),
        ({"acc": 1}, "the task function returned {'acc': 1} (dict); return a number"),
        ([1, 2], "the task function returned [1, 2] (list); return a number"),
    ],
)
def test_return_value_that_is_no_number_fails_in_one_line(hydra_app: MakeApp, value: Any, said: str) -> None:
    (job,) = hydra_app().run(lambda config: value, [])
    assert job.result.state is State.FAIL
    assert job.result.failure.reason == said
    assert job.result.failure.blame is Blame.USER


def test_several_objectives_take_several_numbers(hydra_app: MakeApp) -> None:
    good, bad = hydra_app().run(
        lambda config: (1, 2.5) if config.lr == 1 else 3.0, ["lr=1"], ["lr=2"], metrics=("value_0", "value_1")
    )
    assert good.result.values == (1.0, 2.5)
    reason = "the task function returned 3.0 (float); return 2 numbers (value_0, value_1)"
    assert bad.result.failure.reason == reason


@pytest.mark.parametrize(
    ("returned", "values"),
    [
        (np.array([0.5]), (0.5,)),
        (np.array(0.5), (0.5,)),
        (np.float32(0.5), (0.5,)),
        (torch.tensor([0.5]), (0.5,)),
        (np.array([0.5, 1]), (0.5, 1.0)),
        ([np.array([0.5]), torch.tensor(1)], (0.5, 1.0)),
    ],
)
def test_array_of_one_element_is_a_number(returned: Any, values: tuple[float, ...]) -> None:
    assert read_values(returned, ["first", "second"][: len(values)]) == values


@pytest.mark.parametrize(("strategy", "ranks"), [("ddp", 2.0), ("ddp_spawn", 1.0)])
def test_in_a_slot_of_two_devices_a_job_is_a_rank_of_two_unless_its_strategy_spawns_them(
    hydra_app: MakeApp, strategy: str, ranks: float
) -> None:
    def task(config: DictConfig) -> float:
        besom.report({"ranks": float(os.environ.get("WORLD_SIZE", "1"))}, step=0)
        return 0.0

    app = hydra_app(f"trainer: {{strategy: {strategy}}}\n")
    slots = [Slot(index=0, devices=(Device(kind="cpu", name="a CPU"),) * 2)]
    with WorkerPool(slots, app.task(task), logs=app.folder / "logs") as pool:
        (reported,) = app.job(pool, 0, []).reported
    assert reported.metrics == {"ranks": ranks}


def test_failure_of_a_job_comes_with_its_traceback(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        raise RuntimeError("no luck")

    failed, also = hydra_app().run(task, [], [])
    assert failed.result.state is State.FAIL
    assert failed.result.failure.reason == "RuntimeError: no luck"
    assert "in task" in failed.result.failure.traceback
    assert also.result.state is State.FAIL  # the worker lives on


def test_job_that_exits_fails_and_the_worker_lives_on(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        if config.lr > 1:
            sys.exit(3)
        return 0.0

    left, stayed = hydra_app().run(task, ["lr=2"], ["lr=1"])
    assert left.result.failure.reason == "the job called sys.exit(3); return a value instead"
    assert stayed.result.state is State.COMPLETE


def test_override_that_does_not_fit_fails_in_one_line(hydra_app: MakeApp) -> None:
    (job,) = hydra_app().run(lambda config: 0.0, ["model.dept=3"])
    assert job.result.failure.reason.startswith("model.dept=3: there is no key model.dept; did you mean model.depth?")


def test_app_that_cannot_be_sent_is_refused_and_the_variable_is_named(hydra_app: MakeApp) -> None:
    import threading

    lock = threading.Lock()

    def inner() -> object:
        return lock

    said = "theirs: the task function cannot be sent to another process: lock, a _thread.lock, cannot be pickled; "
    with pytest.raises(ConfigError, match=said):
        hydra_app().task(lambda config: inner())


def test_module_that_is_an_object_of_its_own_is_sent_by_its_name(hydra_app: MakeApp) -> None:
    import torch.backends.cudnn as cudnn

    (job,) = hydra_app().run(lambda config: float(cudnn.is_available() + config.lr), ["lr=2"])
    assert job.result.values[0] >= 2.0


def test_report_sends_values_and_stops_when_told(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        import time

        for step in range(1, 10_000):
            besom.report(step / 10, step=step)
            time.sleep(0.01)
        return 1.0

    app = hydra_app()
    with app.pool(task) as pool:
        told = []

        def hear(reported: Any) -> None:
            if reported.moment.step == 3:
                told.append(reported)
                pool.stop(pool.slots[0], 0, at_once=False)

        job = app.job(pool, 0, [], hear)
        assert told[0].metrics == {"value": 0.3}
        assert job.result.state is State.PRUNED
        assert len(job.reported) < 9_000
        assert app.job(pool, 1, [], lambda reported: pool.stop(pool.slots[0], 1, at_once=False)).result


def test_worker_imports_torch_only_where_the_app_does(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        return float(any(name in sys.modules for name in ("torch", "pytorch_lightning", "optuna", "mlflow")))

    (job,) = hydra_app().run(task, [])
    assert job.result.values == (0.0,)
