"""Finalists with fake workers: their choice, their seeds and their results."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Run

from besom.config.objectives import Objective
from besom.errors import BesomError, ConfigError, Interrupted
from besom.reports.read.finalists import BASELINES, FinalistRun, finalist_runs
from besom.reports.read.pareto import Front
from besom.reports.read.summary import Row, Summary
from besom.sweep.finalists.choose import choose, fresh_seeds
from besom.sweep.spec_parts import FinalistsSpec
from besom.tracking.tags import StudyAttribute
from besom.workers.messages import Assignment, Finished, Message, TrialResult
from tests.fakes import failed, reported, started
from tests.sweep.commands import Command
from tests.sweep.sweeps import PATIENCE_S, stuck

pytestmark = pytest.mark.slow

ACCURACY = Objective(name="val/acc", direction="maximize")
SIZE = Objective(name="cost/params", direction="minimize")
TOP_2 = "hydra.sweeper.finalists={top:2,seeds:2}"
ONE_SLOT = "hydra.sweeper.n_jobs=1"
UNTRACKED = "tracking=none"


# The choice.

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["MLPClassifier", *BASELINES]),
        st.integers(0, 3),  # few configs, so that some have two trials
        st.integers(0, 50),
        st.booleans(),
    ),
    max_size=20,
)


def swept(rows: Sequence[tuple[str, int, int, bool]], *objectives: Objective) -> Summary:
    """Return a sweep's summary; a second, minimized objective is worse where the first is better."""
    made = [
        Row(
            trial=trial,
            values=(value / 50, float(value))[: len(objectives)],
            family=family,
            params={"model": family, "width": width, "seed": trial},
            duration_s=1.0,
            run_id="",
            feasible=feasible,
        )
        for trial, (family, width, value, feasible) in enumerate(rows)
    ]
    made.sort(key=lambda row: (not row.feasible, -row.value))
    front = Front(objectives)
    for row in made if len(objectives) > 1 else []:
        front.add(row.trial, row.values)
    return Summary(study="own", objectives=objectives, rows=tuple(made), front=front.trials)


@given(rows=ROWS, top=st.integers(1, 5))
def test_finalists_are_the_best_configs_and_the_best_baseline(rows: Any, top: int):
    summary = swept(rows, ACCURACY)
    chosen = choose(summary, top)
    feasible = [row for row in summary.rows if row.feasible]
    configs = [(row.params["model"], row.params["width"]) for row in chosen]
    assert all(row.feasible for row in chosen)
    assert len(set(configs[:top])) == len(configs[:top])
    assert len(chosen) >= min(top, len({(row.params["model"], row.params["width"]) for row in feasible}))
    assert chosen[:1] == tuple(feasible[:1])
    left_out = [row for row in feasible if (row.params["model"], row.params["width"]) not in configs]
    assert all(row.value <= chosen[top - 1].value for row in left_out)
    baselines = [row for row in feasible if row.family in BASELINES]
    assert not baselines or max(row.value for row in baselines) in [
        row.value for row in chosen if row.family in BASELINES
    ]


def test_of_several_objectives_the_finalists_are_on_the_front_but_for_the_baseline():
    rows = [("MLPClassifier", 0, 50, True), ("MLPClassifier", 1, 40, True), ("LogisticRegression", 2, 10, True)]
    summary = swept(rows, ACCURACY, SIZE)
    beaten = Summary(study="own", objectives=summary.objectives, rows=summary.rows, front=(0,))
    assert [row.trial for row in choose(summary, 2)] == [0, 1, 2]
    assert [row.trial for row in choose(beaten, 2)] == [0, 2]


@given(seed=st.integers(0, 2**31), count=st.integers(1, 30), more=st.integers(0, 10), taken=st.sets(st.integers(0, 20)))
def test_seeds_are_fresh_and_stay_as_more_of_them_are_asked_for(seed: int, count: int, more: int, taken: set[int]):
    few = fresh_seeds(seed, FinalistsSpec(seeds=count), taken=taken)
    many = fresh_seeds(seed, FinalistsSpec(seeds=count + more), taken=taken)
    assert many[:count] == few
    assert len(set(many)) == count + more
    assert not set(many) & taken
    assert all(value >= 0 for value in many)


def test_a_seed_that_trials_had_is_passed_over():
    first, second = fresh_seeds(0, FinalistsSpec(seeds=2))
    assert fresh_seeds(0, FinalistsSpec(seeds=1), taken=[first]) == (second,)


def test_other_overrides_and_other_sweeps_draw_other_seeds():
    longer = FinalistsSpec(overrides={"trainer.max_epochs": 60})
    assert not set(fresh_seeds(0, FinalistsSpec())) & set(fresh_seeds(0, longer))
    assert not set(fresh_seeds(0, FinalistsSpec())) & set(fresh_seeds(1, FinalistsSpec()))


# Their runs.


def scored(assignment: Assignment) -> Iterator[Message]:
    """Play a trial whose objective is its learning rate, or a tested finalist, which also depends on its seed."""
    config, value = assignment.config, assignment.config["optimizer"]["lr"]
    yield started(assignment.trial)
    yield reported(assignment.trial, 1, val_acc=value)
    luck = config["seed"] % 7 / 1e4 if config["test"] else 0.0
    summary = {"test/acc": value - luck} if config["test"] else {}
    result = TrialResult(values=(value - luck,), best_epoch=1, summary=summary, duration_s=0.5)
    yield Finished(trial=assignment.trial, result=result)


class Recording:
    """Plays trials and stores the configs of the finalists in their order."""

    def __init__(self, play: Any = scored) -> None:
        self.finalists: list[Mapping[str, Any]] = []
        self._play = play

    def __call__(self, assignment: Assignment) -> Iterator[Message]:
        if assignment.config["test"]:
            self.finalists.append(assignment.config)
            return self._play(assignment)
        return scored(assignment)


def finalists_of(command: Command) -> list[FinalistRun]:
    return list(finalist_runs(command.study("own").user_attrs))


def recorded(command: Command) -> list[Run]:
    """Return MLflow's runs of finalists."""
    return [run for run in command.all_runs() if run.data.tags.get("besom.kind") == "finalist"]


def test_the_best_and_the_baseline_are_trained_again_with_the_same_seeds_and_tested(
    command: Command, capsys: pytest.CaptureFixture[str]
):
    play = Recording()
    command(
        play, "hydra.sweeper.n_trials=6", "hydra.sweeper.finalists={top:2,seeds:3,overrides:{data.eval_batch_size:64}}"
    )
    out = capsys.readouterr().out
    study = command.study("own")
    (parent,), trials = command.runs()
    assert (len(study.trials), len(trials)) == (6, 6)
    assert all("test/acc" not in run.data.metrics for run in trials)

    best = sorted(study.trials, key=lambda trial: -(trial.value or 0))
    linear = next(trial for trial in best if trial.params["model"] == "logistic_regression")
    expected = {best[0].number, best[1].number, linear.number}
    found = finalists_of(command)
    seeds = {run.seed for run in found}
    assert {(run.trial, run.seed) for run in found} == {(trial, seed) for trial in expected for seed in seeds}
    assert len(seeds) == 3
    assert 0 not in seeds

    rates = {study.trials[trial].params["optimizer.lr"] for trial in expected}
    assert {config["optimizer"]["lr"] for config in play.finalists} == rates
    for config in play.finalists:
        assert config["seed"] == config["model"]["seed"] == config["data"]["shuffle_seed"] in seeds
        assert (config["data"]["split_seed"], config["data"]["eval_batch_size"]) == (0, 64)
    # Ordered by seed.
    assert len({config["seed"] for config in play.finalists[: len(expected)]}) == 1

    runs = {run.info.run_id: run for run in recorded(command)}
    assert runs.keys() == {run.run_id for run in found}
    for run in found:
        there = runs[run.run_id]
        tags = there.data.tags
        assert there.info.run_name == f"own-{run.trial}-seed-{run.seed}"
        assert (tags["besom.finalist"], tags["besom.seed"]) == (str(run.trial), str(run.seed))
        assert (tags["besom.state"], there.info.status) == ("COMPLETE", "FINISHED")
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert f"data.eval_batch_size=64 seed={run.seed} test=true" in tags["besom.overrides"]
        assert there.data.metrics["test/acc"] == run.metrics["test/acc"]
        assert there.data.metrics["best/val/acc"] == run.metrics["best/val/acc"]

    winner = [run for run in found if run.trial == best[0].number]
    mean = sum(run.metrics["test/acc"] for run in winner) / 3
    assert parent.data.metrics["test/acc"] == pytest.approx(mean)
    assert parent.data.metrics["test/acc_low"] <= mean <= parent.data.metrics["test/acc_high"]
    assert parent.data.tags["besom.winner"] == str(best[0].number)
    assert parent.data.tags["besom.winner_run"] == max(winner, key=lambda run: run.metrics["best/val/acc"]).run_id
    assert runs.keys().isdisjoint({parent.data.tags["besom.best_run"]})
    assert f"[finalists {len(found)}/{len(found)}]" in out
    assert out.splitlines()[-1] == f"best run {parent.data.tags['besom.winner_run']}"
    assert "finalists, the best on val/acc first" in out
    assert not (command.location.directory / "scratch" / "own").exists()


def test_the_same_command_adds_nothing_and_more_seeds_just_what_is_missing(command: Command):
    command(scored, TOP_2, UNTRACKED)
    before = finalists_of(command)
    play = Recording()
    command(play, TOP_2, UNTRACKED)
    assert (play.finalists, finalists_of(command)) == ([], before)
    command(play, "hydra.sweeper.finalists={top:2,seeds:3}", UNTRACKED)
    assert len({config["seed"] for config in play.finalists}) == 1
    after = finalists_of(command)
    assert len(after) == len(before) + len(play.finalists)
    assert [run for run in after if run in before] == before


def test_finalists_are_chosen_anew_as_trials_are_added_and_the_former_ones_stay_recorded(
    command: Command, capsys: pytest.CaptureFixture[str]
):
    only = "hydra.sweeper.finalists={top:1,seeds:2}"
    fixed = ("model=mlp_classifier", ONE_SLOT, UNTRACKED)
    command(scored, only, "hydra.sweeper.n_trials=1", *fixed)
    capsys.readouterr()
    better = "hydra.sweeper.enqueue=[{optimizer.lr: 0.1}]"
    command(scored, only, "hydra.sweeper.n_trials=2", better, *fixed)
    assert [run.trial for run in finalists_of(command)] == [0, 0, 1, 1]
    assert command.study("own").user_attrs[StudyAttribute.FINALISTS]["trials"] == [1]
    _, _, table = capsys.readouterr().out.partition("finalists, the best")
    assert [line.split()[:1] for line in table.splitlines()[2:4]] == [["1"], []]


OF_ONE_MODEL = ("model=mlp_classifier", ONE_SLOT)
BEST = "hydra.sweeper.enqueue=[{optimizer.lr: 0.1}]"
WORSE = "hydra.sweeper.enqueue=[{optimizer.lr: 0.05}]"
TOP_1 = "hydra.sweeper.finalists={top:1,seeds:2,overrides:{data.eval_batch_size:64}}"


def test_a_trial_of_another_config_is_trained_again_by_its_own(command: Command, capsys: pytest.CaptureFixture[str]):
    command(scored, "hydra.sweeper.n_trials=1", BEST, "trainer.max_epochs=7", "model.activation=gelu", *OF_ONE_MODEL)
    capsys.readouterr()
    given: list[Assignment] = []

    def play(assignment: Assignment) -> Iterator[Message]:
        given.append(assignment)
        return scored(assignment)

    command(Recording(play), TOP_1, "hydra.sweeper.n_trials=2", WORSE, "data.batch_size=16", *OF_ONE_MODEL)
    assert command.study("own").user_attrs[StudyAttribute.FINALISTS]["trials"] == [0]
    assert "is left out" not in capsys.readouterr().out
    assert len(given) == 2
    for assignment in given:
        config, data = assignment.config, assignment.config["data"]
        assert config["seed"] == config["model"]["seed"] == data["shuffle_seed"]
        assert (config["optimizer"]["lr"], config["trainer"]["max_epochs"]) == (0.1, 7)
        assert (config["model"]["activation"], data["batch_size"], data["eval_batch_size"]) == ("gelu", 64, 64)
        assert data["split_seed"] == 0
        assert assignment.trust is not None  # a recorded config could name any code
    for run in recorded(command):
        assert run.data.tags["besom.config"] == "1"
        assert "trainer.max_epochs=7" in run.data.tags["besom.overrides"]


def test_what_another_config_pins_does_not_follow_the_seed(command: Command):
    command(scored, "hydra.sweeper.n_trials=1", BEST, "seed=1", "model.seed=3", *OF_ONE_MODEL)
    play = Recording()
    command(play, TOP_1, "hydra.sweeper.n_trials=1", "seed=2", *OF_ONE_MODEL)
    assert [config["model"]["seed"] for config in play.finalists] == [3, 3]
    assert all(config["seed"] == config["data"]["shuffle_seed"] > 3 for config in play.finalists)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (UNTRACKED, "its config is kept with its run, and none is read with tracking=none; start the sweep with that"),
        ("data.split_seed=3", "config 2 judges otherwise (data.split_seed was 0, is 3); start the sweep with"),
        (
            "evaluation.folds=3",
            "config 2 judges otherwise (evaluation.folds was None, is 3); start the sweep with",
        ),
    ],
)
def test_a_trial_whose_config_cannot_be_had_or_compared_is_left_out_unless_its_runs_are_complete(
    command: Command, capsys: pytest.CaptureFixture[str], change: str, why: str
):
    command(scored, "hydra.sweeper.n_trials=1", TOP_1.replace("seeds:2", "seeds:1"), BEST, *OF_ONE_MODEL)
    command(scored, "hydra.sweeper.n_trials=2", BEST.replace("0.1", "0.09"), *OF_ONE_MODEL)
    play = Recording()
    capsys.readouterr()
    top_2 = "hydra.sweeper.finalists={top:2,seeds:1,overrides:{data.eval_batch_size:64}}"
    command(play, top_2, "hydra.sweeper.n_trials=3", WORSE, "trainer.max_epochs=5", change, *OF_ONE_MODEL)
    assert [config["optimizer"]["lr"] for config in play.finalists] == [0.05]
    assert command.study("own").user_attrs[StudyAttribute.FINALISTS]["trials"] == [0, 2]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "is left out" in line]
    assert line.startswith(f"warning: hydra.sweeper.finalists: trial 1, of config 1, is left out: {why}")


UNFIT = {
    "besom.models.MLPClassifier": ("own_net.Net", "model._target_: own_net.Net is none of what Besom, torch and"),
    "activation: relu": ("activation: ${oc.env:BESOM_SECRET_KEY}", "model.activation: secrets are not recorded; set"),
    "dropout: 0.0": ("dropout: ${oc.env:HOME}", "model.dropout: the recorded config reads the environment variable"),
    "eval_batch_size": ("other_batch_size", "there is no key data.eval_batch_size"),
    "test_fraction: 0.2": ("test_fraction: 0", "test: the data has no test part"),
}
"""What stands in the recorded config of a trial, what takes its place, and why no finalist can be trained from that."""


def test_trials_whose_recorded_configs_cannot_be_trained_from_are_left_out_each_with_its_reason(
    command: Command, capsys: pytest.CaptureFixture[str]
):
    rates = ", ".join(f"{{optimizer.lr: 0.09{number}}}" for number in range(len(UNFIT)))
    enqueued = f"hydra.sweeper.enqueue=[{rates}]"
    command(scored, f"hydra.sweeper.n_trials={len(UNFIT)}", enqueued, *OF_ONE_MODEL)
    folder = command.location.directory
    files = {run.data.tags["besom.trial"]: next(folder.rglob(f"{run.info.run_id}/artifacts/config.yaml"))
             for run in command.runs()[1]}  # fmt: skip
    for trial, (text, (instead, _)) in enumerate(UNFIT.items()):
        recorded_text = files[str(trial)].read_text(encoding="utf-8")
        assert text in recorded_text
        files[str(trial)].write_text(recorded_text.replace(text, instead), encoding="utf-8")
    play = Recording()
    capsys.readouterr()
    best_5 = TOP_1.replace("top:1,seeds:2", f"top:{len(UNFIT)},seeds:1")
    command(play, best_5, "hydra.sweeper.n_trials=6", WORSE, "trainer.max_epochs=5", *OF_ONE_MODEL)
    assert [config["optimizer"]["lr"] for config in play.finalists] == [0.05]
    out = capsys.readouterr().out
    for trial, (_, why) in enumerate(UNFIT.values()):
        assert f"hydra.sweeper.finalists: trial {trial}, of config 1, is left out: {why}" in out


def test_a_run_that_fails_is_recorded_with_its_reason_and_tried_again_by_the_same_command(
    command: Command, capsys: pytest.CaptureFixture[str]
):
    def play(assignment: Assignment) -> Iterator[Message]:
        if broken and assignment.config["seed"] == seeds[0]:
            yield started(assignment.trial)
            yield failed(assignment.trial, "ValueError: no luck")
        else:
            yield from scored(assignment)

    seeds = fresh_seeds(0, FinalistsSpec(seeds=2))
    broken, recording = True, Recording(play)
    command(recording, TOP_2)
    assert "of the finalists' runs failed: ValueError: no luck" in capsys.readouterr().out
    assert {run.reason for run in finalists_of(command) if run.seed == seeds[0]} == {"ValueError: no luck"}
    assert {run.reason for run in finalists_of(command) if run.seed == seeds[1]} == {None}
    failures = [run for run in recorded(command) if run.info.status == "FAILED"]
    assert {run.data.tags["besom.reason"] for run in failures} == {"ValueError: no luck"}
    once = len(recording.finalists)

    broken = False
    command(recording, TOP_2)
    assert {config["seed"] for config in recording.finalists[once:]} == {seeds[0]}
    assert {run.reason for run in finalists_of(command)} == {None}


def test_a_run_that_fails_is_retried_as_a_trial_is(command: Command):
    def play(assignment: Assignment) -> Iterator[Message]:
        if assignment.config["test"] and not failures:
            failures.append(assignment.trial)
            yield started(assignment.trial)
            yield failed(assignment.trial, "ValueError: no luck")
        else:
            yield from scored(assignment)

    failures: list[int] = []
    command(play, TOP_2, "hydra.sweeper.retries=1")
    assert {run.reason for run in finalists_of(command)} == {None}
    (retried,) = (run for run in recorded(command) if run.info.status == "FAILED")
    assert retried.data.tags["besom.state"] == "RETRIED"
    assert len(recorded(command)) == len(finalists_of(command)) + 1
    assert retried.info.run_id not in {run.run_id for run in finalists_of(command)}


def test_finalists_that_all_fail_end_the_sweep_with_the_reason(command: Command):
    def play(assignment: Assignment) -> Iterator[Message]:
        yield failed(assignment.trial, "ValueError: no luck")

    with pytest.raises(BesomError, match=r"study own: no finalist is complete \(ValueError: no luck\)"):
        command(Recording(play), TOP_2, UNTRACKED)


def test_a_value_that_is_no_number_is_a_failure(command: Command):
    def play(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        result = TrialResult(values=(float("nan"),), summary={"test/acc": 0.5}, duration_s=0.5)
        yield Finished(trial=assignment.trial, result=result)

    with pytest.raises(BesomError, match=r"no finalist is complete \(val/acc is nan\)"):
        command(Recording(play), TOP_2, UNTRACKED)


def test_a_run_that_hangs_is_ended_by_the_trials_limit(command: Command):
    command(scored, UNTRACKED)
    one = ("hydra.sweeper.finalists={top:1,seeds:1}", "hydra.sweeper.trial_timeout=0.1", UNTRACKED)
    with pytest.raises(BesomError, match=r"no finalist is complete \(it took longer than hydra.sweeper.trial_timeout"):
        command(stuck, *one)


def test_ctrl_c_puts_back_what_runs_and_the_same_command_goes_on(command: Command, capsys: pytest.CaptureFixture[str]):
    def play(assignment: Assignment) -> Iterator[Message]:
        if len(recording.finalists) == 2 and not pressed.is_set():
            pressed.set()
            yield started(assignment.trial)
            while not any(run.info.status == "RUNNING" for run in recorded(command)):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(PATIENCE_S)
        else:
            yield from scored(assignment)

    pressed, recording = threading.Event(), Recording(play)
    with pytest.raises(Interrupted):
        command(recording, TOP_2, ONE_SLOT)
    (over,) = finalists_of(command)
    wanted = 2 * len(command.study("own").user_attrs[StudyAttribute.FINALISTS]["trials"])
    left = f"{wanted - 1} of the finalists' {wanted} runs are not recorded yet; the same command goes on from there"
    assert left in capsys.readouterr().out
    assert sorted(run.info.status for run in recorded(command)) == ["FINISHED", "KILLED"]
    (parent,), trials = command.runs()
    assert parent.info.status == "KILLED"
    assert "besom.winner" not in parent.data.tags
    assert [run.info.status for run in trials] == ["FINISHED"] * 4

    command(recording, TOP_2, ONE_SLOT)
    after = finalists_of(command)
    assert len(after) == wanted
    assert over in after
    (parent,), _ = command.runs()
    assert parent.info.status == "FINISHED"
    assert sorted(run.info.status for run in recorded(command)) == ["FINISHED"] * wanted + ["KILLED"]


def test_who_stops_the_last_trial_does_not_want_finalists_either(command: Command):
    def play(assignment: Assignment) -> Iterator[Message]:
        *before, end = scored(assignment)
        yield from before
        if assignment.trial == 3:
            os.kill(os.getpid(), signal.SIGINT)  # after the last message at which a stop request would be met
        yield end

    with pytest.raises(Interrupted):
        command(play, TOP_2, ONE_SLOT, UNTRACKED)
    assert [trial.state.name for trial in command.study("own").trials] == ["COMPLETE"] * 4
    assert finalists_of(command) == []


def test_what_is_recorded_in_mlflow_alone_is_not_trained_again(command: Command):
    command(scored, TOP_2)
    before = {(run.trial, run.seed): run for run in finalists_of(command)}
    with closing(sqlite3.connect(command.location.directory / "optuna.db")) as database:
        database.execute("DELETE FROM study_user_attributes WHERE key LIKE 'besom.finalist %'")
        database.commit()
    assert finalists_of(command) == []
    play = Recording()
    command(play, TOP_2)
    assert play.finalists == []
    after = {(run.trial, run.seed): run for run in finalists_of(command)}
    assert after.keys() == before.keys()
    for key, run in after.items():
        assert (run.run_id, run.metrics) == (before[key].run_id, before[key].metrics)


def test_finalists_may_train_longer_than_the_trials_did(command: Command):
    longer = "hydra.sweeper.finalists={top:1,seeds:2,overrides:{trainer.max_epochs:60,early_stopping.patience:9}}"
    play = Recording()
    command(play, longer, UNTRACKED)
    assert {config["trainer"]["max_epochs"] for config in play.finalists} == {60}
    assert {config["early_stopping"]["patience"] for config in play.finalists} == {9}
    once = len(play.finalists)
    command(play, longer.replace("60", "70"), UNTRACKED)
    assert {config["trainer"]["max_epochs"] for config in play.finalists[once:]} == {70}


def test_without_tracking_the_study_and_the_log_keep_them_and_a_quiet_sweep_tells_the_verdict(
    command: Command, capsys: pytest.CaptureFixture[str]
):
    command(scored, TOP_2, UNTRACKED, "hydra.sweeper.quiet=true")
    _, verdict, _ = capsys.readouterr().out.splitlines()
    assert "the baseline, trial" in verdict
    log = (command.location.directory / "logs" / "own" / "sweep.log").read_text()
    assert "finalists begin: " in log
    for run in finalists_of(command):
        assert run.run_id == ""
        assert f"trial {run.trial} with seed {run.seed} started in slot" in log
        assert f"trial {run.trial} with seed {run.seed} val/acc" in log


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ("{trainer.max_epoch: 60}", "there is no key trainer.max_epoch; did you mean trainer.max_epochs?"),
        ("{trainer.max_epochs: many}", "trainer.max_epochs: 'many' is not a whole number"),
        ("{trainer.max_epochs: 0}", "trainer.max_epochs: 0 is below 1; train for at least one epoch"),
        ("{model.depth: 3}", "there is no key model.depth"),  # only one of the two models has it
        ("{optimizer: sgd}", "'optimizer' is no plain key; write such as trainer.max_epochs: 60"),
        ("{+trainer.limit: 3}", r"'\+trainer.limit' is no plain key"),
        ("{seed: 3}", "seed is what the sweep decides, for all of them; leave it out"),
        ("{tracking.uri: x}", "tracking.uri is what the sweep decides"),
    ],
)
def test_overrides_that_fit_no_finalist_are_refused_before_anything_is_trained(
    command: Command, overrides: str, told: str
):
    with pytest.raises(ConfigError, match=rf"^own\.yaml: hydra\.sweeper\.finalists\.overrides: {told}"):
        command(scored, f"hydra.sweeper.finalists={{top: 1, overrides: {overrides}}}")
    assert command.runs() == ([], [])
