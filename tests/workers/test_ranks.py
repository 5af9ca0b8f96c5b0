"""The rank coordinator: the messages to its ranks, and the trial result from theirs."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from besom.errors import BesomError
from besom.sweep.trials.trial import for_slot
from besom.workers.ddp import Rank, combined_result, ended_alike, patience_s
from besom.workers.messages import Assignment, Blame, Bundle, Failure, Reported, State, TrialResult
from besom.workers.pool import Died, WorkerPool
from besom.workers.tasks import Training
from tests.pairs import ALONE, PAIR, Runs

# A task without Besom's training: it uses only the environment of the ranks.
FOREIGN = """
import os
from dataclasses import dataclass
from besom.training.result import TrialResult


@dataclass(frozen=True)
class Summing:
    "Sums one over the ranks, as any code for torchrun would."

    def load(self):
        import torch.distributed as dist, torch
        from besom.training.progress import Moment

        def run(assignment, channel):
            if not dist.is_initialized():
                dist.init_process_group("gloo")
            total = torch.full((1,), float(assignment.overrides[0].split("=")[1]))
            dist.all_reduce(total)
            channel.report(Moment(epoch=dist.get_rank(), step=0), {"total": float(total)})
            return TrialResult(values=(float(total), float(os.environ["LOCAL_RANK"])))

        return run
"""


def test_any_code_that_runs_under_torchrun_finds_the_other_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "foreign.py").write_text(FOREIGN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(tmp_path)
    task = importlib.import_module("foreign").Summing()
    with WorkerPool([PAIR], task, logs=tmp_path / "logs") as pool:
        for trial in range(2):
            asked = Assignment(trial=trial, directory=tmp_path, overrides=(f"x={trial + 3}",))
            pool.submit(PAIR, Bundle(assignments=(asked,)))
            runs = Runs(pool, tmp_path)
            end = runs.finish(trial)
            assert end.values == (2 * (trial + 3), 0.0), "both ranks heard the choice; rank 0 answers"
            assert [event.moment.epoch for event in runs.heard if isinstance(event, Reported)] == [0]


def test_a_pool_whose_ranks_die_before_they_are_ready_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "torch.py").write_text("raise SystemExit('no torch today')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with (
        pytest.raises(BesomError, match=r"rank \d \(pid \d+\) exited with code 1 before it was ready"),
        WorkerPool([PAIR], Training(), logs=tmp_path / "logs") as pool,
    ):
        Runs(pool, tmp_path).listen(lambda event: isinstance(event, Died))


# The result of a trial.


def rank(
    number: int, state: State | None = None, *, reason: str = "", blame: Blame = Blame.CODE, death: str = ""
) -> Any:
    failure = Failure(reason=reason, blame=blame) if state is State.FAIL else None
    result = TrialResult(state=state, duration_s=1.0, failure=failure) if state else None
    process: Any = None
    connection: Any = None
    return Rank(number, process, connection, result, death=death or None)


@pytest.mark.parametrize(
    ("ended", "reason", "blame"),
    [
        ([rank(1, State.FAIL, reason="a"), rank(0, State.FAIL, reason="b")], "b", Blame.CODE),
        ([rank(1, State.FAIL, reason="a"), rank(0)], "rank 1: a", Blame.CODE),
        ([rank(0, State.FAIL, reason="connection lost"), rank(1, death="rank 1 died")], "rank 1 died", Blame.CODE),
        ([rank(0, State.FAIL, reason="lost"), rank(1, State.FAIL, reason="lr", blame=Blame.USER)], "rank 1: lr",
         Blame.USER),
        ([rank(1, State.PRUNED), rank(0)], "rank 1 stopped and rank 0 went on; report on every rank, and agree on when "
         "to stop", Blame.CODE),
    ],
)  # fmt: skip
def test_a_failure_is_put_down_to_the_rank_that_began(ended: list[Rank], reason: str, blame: Blame):
    ranks = sorted(ended, key=lambda rank: rank.number)
    end = combined_result(ranks, [rank for rank in ended if rank.is_finished], duration_s=2.0)
    assert (end.state, end.duration_s) == (State.FAIL, 2.0)
    assert end.failure is not None
    assert (end.failure.reason, end.failure.blame) == (reason, blame)
    assert not ended_alike(ranks)


def test_rank_0_alone_says_how_a_trial_ended_that_did_not_fail():
    first, other = rank(0, State.COMPLETE), rank(1)
    assert combined_result([first, other], [first], duration_s=2.0) is first.result
    assert not ended_alike([first, other])
    assert ended_alike([first, rank(1, State.COMPLETE)])


def test_others_are_waited_for_only_as_long_as_they_may_still_end_by_themselves():
    assert patience_s([]) is None
    assert patience_s([rank(1, State.COMPLETE)]) is None  # rank 0 saves the model
    briefly, longer = patience_s([rank(1, State.FAIL)]), patience_s([rank(0, State.COMPLETE)])
    assert briefly is not None
    assert longer is not None
    assert patience_s([rank(1, death="died")]) == briefly < longer == patience_s([rank(1, State.PRUNED)])


# The config of a slot.


def test_a_slot_writes_its_devices_into_a_trials_config(compose: Callable[..., DictConfig]):
    asked = compose("trainer.accelerator=auto", "trainer.devices=8")
    alone, pair = (for_slot(asked, slot, test=False).trainer for slot in (ALONE, PAIR))
    assert (alone.accelerator, alone.devices, alone.get("strategy")) == ("cpu", 1, None)
    assert (pair.accelerator, pair.devices, pair.strategy) == ("cpu", 2, "ddp")
    chosen = compose("+trainer.strategy=ddp_find_unused_parameters_true")
    assert for_slot(chosen, PAIR, test=False).trainer.strategy == "ddp_find_unused_parameters_true"
