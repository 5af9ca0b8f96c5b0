"""Two processes that train one trial together, on the CPU with gloo."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from besom.config.checks import resolved
from besom.sweep.trials.trial import for_slot
from besom.system.processes import session_members
from besom.workers.devices import Slot
from besom.workers.messages import Blame, Reported, Started, State
from besom.workers.pool import WorkerPool
from besom.workers.tasks import Training
from tests.pairs import ALONE, PAIR, Runs
from tests.running import OWN_DATA

pytestmark = pytest.mark.slow

OWN = '''
import os, signal
from besom.models import MLPClassifier

RANK = int(os.environ.get("RANK", "0"))


class Slope(pl.LightningModule):
    """One linear unit; logs how many rows each rank saw."""

    def __init__(self, lr):
        super().__init__()
        self.unit = torch.nn.Linear(1, 1)
        self.lr = lr
        self.rows = 0

    def training_step(self, batch, _index):
        x, y = batch
        self.rows += len(x)
        return (self.unit(x) - y).square().mean()

    def validation_step(self, batch, _index):
        x, y = batch
        self.log("val/error", (self.unit(x) - y).abs().mean())
        self.log("val/weight", self.unit.weight.item())

    def on_train_epoch_end(self):
        self.log("train/rows", float(self.rows))
        self.rows = 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Parting(MLPClassifier):
    """Comes to grief on one rank alone, in the middle of the second epoch."""

    how = None

    def on_train_batch_end(self, *_):
        if self.current_epoch == 1 and RANK == 1:
            self.part()


class Dying(Parting):
    def part(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Hungry(Parting):
    def part(self):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
'''

Config = Callable[..., dict[str, Any]]


@pytest.fixture
def config(compose: Callable[..., DictConfig]) -> Config:
    """A small network on digits, for three epochs, as a slot has it."""

    def make(slot: Slot, *overrides: str) -> dict[str, Any]:
        usual = ("model.width=16", "model.depth=1", "trainer.max_epochs=3", "optimizer.lr=0.01")
        return resolved(for_slot(compose(*usual, *overrides), slot, test=False))

    return make


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    """Workers that stay warm from test to test."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "own.py").write_text(OWN_DATA + OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        with WorkerPool([ALONE, PAIR], Training(), logs=folder / "logs") as pool:
            yield pool


@pytest.fixture
def runs(pool: WorkerPool, tmp_path: Path) -> Runs:
    return Runs(pool, tmp_path)


# What comes out.


@pytest.mark.parametrize(
    "overrides",
    [
        ("data.batch_size=64",),  # 1079 rows: the last batch has 55
        (
            "data.batch_size=77",
            "optimizer=sgd",
            "optimizer.lr=0.1",
            "scheduler=plateau",
            "model.gradient_clip_norm=0.5",
        ),
        ("data.batch_size=1078", "optimizer=sgd"),  # the last batch has one row, and rank 0 none of it
        ("data=diabetes", "model=mlp_regressor", "data.batch_size=null"),
    ],
    ids=" ".join,
)
def test_two_devices_train_what_one_trains(runs: Runs, config: Config, overrides: tuple[str, ...]):
    alone = runs.submit(ALONE, config(ALONE, *overrides))
    pair = runs.submit(PAIR, config(PAIR, *overrides))
    ends = [runs.finish(alone), runs.finish(pair)]
    assert [end.state for end in ends] == [State.COMPLETE, State.COMPLETE], ends
    assert len(runs.epochs(pair)) == 4
    for one, two in zip(runs.epochs(alone), runs.epochs(pair), strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-5)
    first, second = ends
    assert second.best_epoch == first.best_epoch
    assert second.values == pytest.approx(first.values, rel=1e-4)
    assert runs.left(pair) == runs.left(alone)


def test_ranks_drop_out_other_units_and_a_seed_repeats_the_run(runs: Runs, config: Config):
    wanted = config(PAIR, "model.dropout=0.5")
    first, again = (runs.train(PAIR, wanted) for _ in range(2))
    assert (first.values, first.best_epoch, first.summary) == (again.values, again.best_epoch, again.summary)
    assert runs.epochs(0) == runs.epochs(1)


def test_the_test_part_is_measured_once_and_all_devices_are_recorded(runs: Runs, config: Config):
    end = runs.train(PAIR, {**config(PAIR), "test": True})
    assert set(end.summary) == {"test/loss", "test/acc", "test/f1", "cost/params"}
    (about,) = [event.about for event in runs.heard if isinstance(event, Started)]
    assert about["device"].startswith("2 x cpu (")


def test_a_users_own_data_is_shared_out_by_lightning_and_metrics_are_means_over_the_ranks(runs: Runs, config: Config):
    own = {"data": {"_target_": "own.Points", "rows": 32}, "model": {"_target_": "own.Slope", "lr": 0.1}}
    end = runs.train(PAIR, {**config(PAIR, "+trainer.num_sanity_val_steps=-1"), **own, "objective": "val/error"})
    first, *later = runs.epochs(0)
    assert [metrics["train/rows"] for metrics in later] == [16.0] * 3
    assert end.values == (min(metrics["val/error"] for metrics in later),)
    assert end.values[0] < first["val/error"]


def test_a_users_own_model_gets_its_piece_of_each_of_our_batches(runs: Runs, config: Config):
    own = {"model": {"_target_": "own.Slope", "lr": 0.001}, "objective": "val/error"}
    data = config(PAIR, "data=line", "data.val_fraction=0.4", "data.batch_size=4")["data"]  # 6 rows: of 4, and of 2
    assert runs.train(PAIR, {**config(PAIR), **own, "data": data}).state is State.COMPLETE
    assert [metrics["train/rows"] for metrics in runs.epochs(0)[1:]] == [3.0] * 3


# How it ends.


@pytest.mark.parametrize("at_once", [False, True])
def test_all_ranks_stop_together_and_go_on_with_the_next_trial(runs: Runs, config: Config, at_once: bool):
    trial = runs.submit(PAIR, config(PAIR, "trainer.max_epochs=1000000", "data.batch_size=8"))
    runs.listen(lambda event: isinstance(event, Reported) and event.moment.epoch == 1)
    before = processes(runs.pool)
    runs.pool.stop(PAIR, trial, at_once=at_once)
    assert runs.finish(trial).state is State.PRUNED
    assert runs.train(PAIR, config(PAIR)).state is State.COMPLETE
    assert processes(runs.pool) == before


@pytest.mark.parametrize(
    ("model", "reason", "blame"),
    [
        ("Dying", r"rank 1 \(pid \d+\) was killed by SIGKILL", Blame.CODE),
        ("Hungry", r"rank 1: OutOfMemoryError: CUDA out of memory.*", Blame.MEMORY),
    ],
)
def test_a_rank_that_comes_to_grief_fails_the_trial_with_its_reason_and_costs_no_other(
    runs: Runs, config: Config, model: str, reason: str, blame: Blame
):
    broken = config(PAIR)
    broken["model"]["_target_"] = f"own.{model}"
    end = runs.train(PAIR, broken)
    assert end.state is State.FAIL
    assert end.failure is not None
    assert re.fullmatch(reason, end.failure.reason)
    assert end.failure.blame is blame
    assert len(runs.epochs(0)) == 2
    assert runs.train(PAIR, config(PAIR)).state is State.COMPLETE


def test_a_mistake_of_the_config_is_told_as_on_one_device_and_the_ranks_stay(runs: Runs, config: Config):
    assert runs.train(PAIR, config(PAIR)).state is State.COMPLETE
    before = processes(runs.pool)
    told = {
        "+optimizer.momentun=0.9": r"optimizer\.momentun: torch\.optim\.Adam takes no 'momentun'",
        "data.batch_size=1": r"data\.batch_size: 1 cannot be cut over the 2 devices",
        "optimizer.lr=1e30": r"loss became (nan|inf)",
    }
    for override, reason in told.items():
        end = runs.train(PAIR, config(PAIR, override, *(["optimizer=sgd"] if "1e30" in override else [])))
        assert end.failure is not None
        assert re.match(reason, end.failure.reason)
        assert end.failure.blame is Blame.USER
    assert processes(runs.pool) == before


def processes(pool: WorkerPool) -> set[int]:
    """The pair's processes: the one that heads the ranks, and the ranks."""
    head = pool._workers[PAIR].process.pid
    return set(session_members(head))


@pytest.mark.parametrize("strategy", ["single_device", "ddp_spawn"])
def test_a_strategy_that_does_not_share_out_a_trial_is_refused(runs: Runs, config: Config, strategy: str):
    end = runs.train(PAIR, config(PAIR, f"+trainer.strategy={strategy}"))
    assert end.failure is not None
    assert end.failure.reason.startswith(f"trainer.strategy: {strategy} cannot train on the 2 devices of a slot")


def test_a_strategy_of_the_ddp_family_is_the_users_choice(runs: Runs, config: Config):
    end = runs.train(PAIR, config(PAIR, "+trainer.strategy=ddp_find_unused_parameters_true"))
    assert end.state is State.COMPLETE, end.failure
