from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient

from besom.errors import BesomError, ConfigError, Interrupted, StoreError
from besom.sweep.space.search_space import SearchSpace
from besom.sweep.study.study import open_study
from besom.workers.messages import Assignment, Message
from tests.fakes import failed, failing, finishing, reported, started
from tests.sweep.commands import SWEEP, Command


def test_a_sweep_ends_with_its_study_its_best_run_and_a_record_of_both(
    command: Command, capsys: pytest.CaptureFixture[str]
):
    command()
    lines = capsys.readouterr().out.splitlines()
    (parent,), trials = command.runs()
    best = max(trials, key=lambda run: run.data.metrics["best/val/acc"])
    assert lines[0] == "study own: maximize val/acc; 4 of 4 trials to go"
    assert lines[-2:] == ["study own", f"best run {best.info.run_id}"]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["besom.best_run"] == best.info.run_id
    assert parent.data.metrics["best/val/acc"] == best.data.metrics["best/val/acc"]
    assert [run.data.tags["mlflow.parentRunId"] for run in trials] == [parent.info.run_id] * 4
    assert {run.data.tags["besom.family"] for run in trials} <= {"LogisticRegression", "MLPClassifier"}
    for run in trials:
        assert ("model.depth" in run.data.params) == (run.data.tags["besom.family"] == "MLPClassifier")
    assert not (command.location.directory / "scratch" / "own").exists()


def test_a_sweep_leaves_its_report_with_the_parent_run(command: Command, capsys: pytest.CaptureFixture[str]):
    command()
    (parent,), trials = command.runs()
    page = command.location.directory / "reports" / "own.html"
    kept = Path(MlflowClient(command.location.uri).download_artifacts(parent.info.run_id, "report.html"))
    assert kept.read_text() == page.read_text()
    assert all(run.info.run_id in kept.read_text() for run in trials)
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith("Besom sweep **own**: maximize val/acc · [Report](#/")
    assert "\n\nBest val/acc is " in note
    assert all(f"](#/experiments/{run.info.experiment_id}/runs/{run.info.run_id})" in note for run in trials)
    assert f"](#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}/artifacts/report.html)" in note
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  "))
    assert told["report"].endswith("reports/own.html")
    assert told["compare"].startswith("http://127.0.0.1:5000/#/compare-runs?runs=%5B%22")


def test_a_sweep_that_records_nothing_leaves_no_report(command: Command):
    command(finishing, "tracking=none")
    assert not (command.location.directory / "reports").exists()


def test_a_report_that_cannot_be_written_costs_the_sweep_nothing_else(
    command: Command, capsys: pytest.CaptureFixture[str]
):
    (command.location.directory / "reports").write_text("in the way")
    command()
    (parent,), _ = command.runs()
    assert parent.info.status == "FINISHED"
    assert "warning: no report was made: " in capsys.readouterr().out


def test_a_sweep_that_is_complete_adds_nothing_and_tells_the_same(command: Command, capsys: pytest.CaptureFixture[str]):
    command()
    first = capsys.readouterr().out.splitlines()
    before = command.runs()
    command()
    second = capsys.readouterr().out.splitlines()
    assert second[0] == "study own: maximize val/acc; all 4 trials are done"
    assert second[-1] == first[-1]
    assert [run.info.run_id for runs in command.runs() for run in runs] == [
        run.info.run_id for runs in before for run in runs
    ]


@pytest.mark.parametrize(("bundle", "together"), [("4", 4), ("auto", 1)])
def test_a_users_own_model_shares_a_bundle_only_where_a_number_is_asked_for(
    command: Command, tmp_path: Path, bundle: str, together: int
):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/own.yaml").write_text("_target_: net.Own\n")
    head, _, _ = SWEEP.partition("      model: choice")
    text = head.replace("data: digits", "data: digits\n  - override model: own")
    (tmp_path / "own.yaml").write_text(text + '      optimizer.lr: "tag(log, interval(1e-3, 1e-1))"\n')
    command(finishing, f"hydra.sweeper.bundle={bundle}", "hydra.sweeper.n_trials=40")
    assert max(map(len, command.launcher.bundles)) == together


def test_a_study_that_goes_on_with_another_config_says_what_changed(
    command: Command, capsys: pytest.CaptureFixture[str]
):
    command(finishing, "hydra.sweeper.n_trials=2")
    before = capsys.readouterr().out
    assert "warning: hydra.sweeper.n_trials: TPESampler chooses none of the 2 trials: " in before
    assert "since the study began" not in before
    command(finishing, "hydra.sweeper.n_trials=3", "trainer.max_epochs=5")
    out = capsys.readouterr().out
    (warning,) = [line for line in out.splitlines() if "since the study began" in line]
    assert warning.startswith("warning: since the study began, trainer.max_epochs was 10, is 5;")
    trials = command.study("own").trials
    assert [trial.user_attrs["besom"]["config"] for trial in trials] == [1, 1, 2]
    assert {int(run.data.tags["besom.trial"]): run.data.tags["besom.config"] for run in command.runs()[1]} == {
        0: "1", 1: "1", 2: "2",
    }  # fmt: skip
    (heading,) = [line.split() for line in out.splitlines() if line.split()[:2] == ["trial", "val/acc"]]
    assert "config" in heading
    assert "config 2: trainer.max_epochs was 10, is 5" in out.splitlines()


def test_a_config_that_is_edited_while_a_sweep_runs_is_told_once_and_its_trials_keep_the_old_one(
    command: Command, tmp_path: Path
):
    mine = tmp_path / "optimizer" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_text("defaults: [adam, _self_]\nweight_decay: 0.1\n")
    text = SWEEP.replace("    when:\n", '      optimizer: "choice(adam, mine, sgd)"\n    when:\n')
    (tmp_path / "own.yaml").write_text(text)
    told = "optimizer/mine.yaml was changed on disk"
    log = command.location.directory / "logs" / "own" / "sweep.log"
    trained: dict[int, float] = {}

    def play(assignment: Assignment) -> Iterator[Message]:
        if not trained:
            mine.write_text("defaults: [adam, _self_]\nweight_decay: 0.2\n")
        elif edited and assignment.trial == 3:
            give_up_s = time.monotonic() + 20
            while told not in log.read_text() and time.monotonic() < give_up_s:
                time.sleep(0.05)
        trained[assignment.trial] = assignment.config["optimizer"].get("weight_decay")
        return finishing(assignment)

    # The second of these pairs is composed while trials run.
    points = [f"model:{model},optimizer:mine,optimizer.lr:" for model in ("logistic_regression", "mlp_classifier")]
    queue = ",".join(f"{{{point}0.0{place}}}" for place, point in enumerate(2 * points, start=1))
    edited = True
    command(play, f"hydra.sweeper.enqueue=[{queue}]", "hydra.sweeper.n_jobs=1")
    assert trained == dict.fromkeys(range(4), 0.1)
    assert log.read_text().count(told) == 1
    edited = False
    command(play, "hydra.sweeper.n_trials=5", f"hydra.sweeper.enqueue=[{{{points[1]}0.05}}]")
    assert trained[4] == 0.2
    assert [trial.user_attrs["besom"]["config"] for trial in command.study("own").trials] == [1, 1, 1, 1, 2]


def test_more_trials_are_added_to_the_same_study(command: Command):
    command(finishing, "hydra.sweeper.n_trials=2")
    command(finishing, "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1")
    parents, trials = command.runs()
    assert (len(parents), len(trials)) == (1, 3)
    assert len(command.launcher.launched) == 1


def test_without_tracking_the_study_is_all_that_is_kept(command: Command, capsys: pytest.CaptureFixture[str]):
    command(finishing, "tracking=none")
    assert capsys.readouterr().out.splitlines()[-1] == "best run none (tracking=none)"
    assert command.runs() == ([], [])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.depht=choice(1,2)", r"own\.yaml: .*model\.depht"),
        ("data.batch_size=choice(8,0)", r"own\.yaml: data\.batch_size: 0 is below 1"),
        ("optimizer=choice(adam,adamm)", r"own\.yaml: .*adamm"),
        ("hydra.sweeper.n_trials=0", r"own\.yaml: hydra\.sweeper\.n_trials: 0 is below 1"),
        ("hydra.sweeper.n_jobs=0", r"own\.yaml: hydra\.sweeper\.n_jobs: 0 is below 1"),
        ("+hydra.sweeper.sampler._target_=optuna.samplers.Nope", r"own\.yaml: hydra\.sweeper\.sampler"),
    ],
)
def test_a_mistake_in_the_sweep_is_told_before_anything_is_recorded(command: Command, override: str, told: str):
    (command.location.directory / "optuna.db").unlink()
    with pytest.raises(ConfigError, match=told):
        command(finishing, override)
    assert command.runs() == ([], [])
    assert not (command.location.directory / "optuna.db").exists()


def test_a_sweep_without_a_complete_trial_fails_with_the_reason(command: Command):
    with pytest.raises(BesomError, match=r"study own: no trial is complete \(ValueError: no luck\)"):
        command(failing)
    (parent,), trials = command.runs()
    assert parent.info.status == "FAILED"
    assert [run.info.status for run in trials] == ["FAILED"] * 4


def test_a_sweep_that_gives_up_says_so_and_is_recorded_as_failed(command: Command, capsys: pytest.CaptureFixture[str]):
    def play(assignment: Assignment) -> Iterator[Message]:
        return (finishing if assignment.trial == 0 else failing)(assignment)

    told = "study own: 2 of 4 trials failed, 2 of them by 'ValueError: no luck'; .*max_failure_rate"
    with pytest.raises(BesomError, match=told):
        command(play, "hydra.sweeper.max_failure_rate=0.25", "hydra.sweeper.n_jobs=1")
    assert "1 of 4 trials are to come" in capsys.readouterr().out
    (parent,), _ = command.runs()
    assert parent.info.status == "FAILED"


def test_a_sweep_that_is_stopped_is_recorded_as_killed(command: Command, capsys: pytest.CaptureFixture[str]):
    def play(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        if assignment.trial == 1 and not stopped.is_set():
            stopped.set()
            os.kill(os.getpid(), signal.SIGINT)
            for epoch in range(2_000):  # until it is asked to stop
                yield reported(assignment.trial, epoch, val_acc=0.0)
                time.sleep(0.01)
        yield from list(finishing(assignment))[1:]

    stopped = threading.Event()
    with pytest.raises(Interrupted):
        command(play, "hydra.sweeper.n_jobs=1")
    assert "3 of 4 trials are to come; the same command goes on from there" in capsys.readouterr().out
    (parent,), trials = command.runs()
    assert parent.info.status == "KILLED"
    assert sorted(run.info.status for run in trials) == ["FINISHED", "KILLED"]
    assert [trial.state.name for trial in command.study("own").trials] == ["COMPLETE", "WAITING", "WAITING"]
    params = [trial.params for trial in command.study("own").trials]

    command(play, "hydra.sweeper.n_jobs=1")
    (same,), trials = command.runs()
    assert (same.info.run_id, same.info.status) == (parent.info.run_id, "FINISHED")
    assert sorted(run.info.status for run in trials) == ["FINISHED"] * 4 + ["KILLED"]
    again = command.study("own").trials
    assert [trial.state.name for trial in again] == ["COMPLETE"] * 4
    assert [trial.params for trial in again][:3] == params


def test_the_studys_run_is_found_again_by_the_studys_token(command: Command):
    command(finishing, "hydra.sweeper.n_trials=1")
    (parent,), _ = command.runs()
    assert command.study("own").user_attrs["besom.token"] == parent.data.tags["besom.token"]
    # A new study with the same name is a different study.
    optuna.delete_study(study_name="own", storage=f"sqlite:///{command.location.directory}/optuna.db")
    command(finishing, "hydra.sweeper.n_trials=1")
    parents, trials = command.runs()
    assert len({run.data.tags["besom.token"] for run in parents}) == 2
    assert len({run.data.tags["mlflow.parentRunId"] for run in trials}) == 2


def test_a_study_whose_run_was_removed_for_good_gets_a_new_one_and_finds_the_runs_of_its_earlier_trials(
    command: Command, capsys: pytest.CaptureFixture[str]
):
    command(finishing, "hydra.sweeper.n_trials=1")
    (before,), (first,) = command.runs()
    MlflowClient(command.location.uri)._tracking_client.store._hard_delete_run(before.info.run_id)  # `mlflow gc`
    capsys.readouterr()
    command(finishing, "hydra.sweeper.n_trials=2")
    (parent,), runs = command.runs()
    out = capsys.readouterr().out
    told = f"the study's run {before.info.run_id} is not in MLflow any more; it has a new one, {parent.info.run_id}"
    assert out.count(told) == 1
    assert all(run.info.run_id[:8] in out for run in (first, *runs))
    command(finishing, "hydra.sweeper.n_trials=2")
    assert told not in capsys.readouterr().out


def test_each_attempt_at_a_trial_is_a_run_linked_to_the_first(command: Command):
    def play(assignment: Assignment) -> Iterator[Message]:
        if assignment.trial in tried:
            yield from finishing(assignment)
            return
        tried.add(assignment.trial)
        yield started(assignment.trial)
        yield reported(assignment.trial, 1, val_acc=0.9)
        yield failed(assignment.trial, "no luck")

    tried: set[int] = set()
    halving = "+hydra.sweeper.pruner._target_=optuna.pruners.SuccessiveHalvingPruner"
    command(play, "hydra.sweeper.retries=1", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1", halving)
    _, trials = command.runs()
    attempts = {(run.data.tags["besom.trial"], run.data.tags.get("besom.attempt", "0")): run for run in trials}
    assert attempts.keys() == {("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")}
    for trial in "01":
        first, second = attempts[trial, "0"], attempts[trial, "1"]
        assert (first.info.status, first.data.tags["besom.state"]) == ("FAILED", "RETRIED")
        assert (second.info.status, second.data.tags["besom.state"]) == ("FINISHED", "COMPLETE")
        assert second.data.tags["besom.first_run"] == first.info.run_id
        assert first.data.params["optimizer.lr"] == second.data.params["optimizer.lr"]
    again = command.study("own").trials
    assert [trial.state.name for trial in again] == ["COMPLETE"] * 2
    assert [trial.intermediate_values for trial in again] == [{1: trial.value} for trial in again]


def test_another_search_space_is_refused_with_what_changed(command: Command):
    command(finishing, "hydra.sweeper.n_trials=1")
    before = command.runs()
    told = r"own\.yaml: study 'own' was started with another search space \(optimizer\.lr: was .*, is "
    with pytest.raises(ConfigError, match=told):
        command(finishing, "optimizer.lr=interval(1e-3,1e-2)")
    assert [len(runs) for runs in command.runs()] == [len(runs) for runs in before]
    assert len(command.study("own").trials) == 1


def test_a_second_parent_is_refused_and_leaves_what_the_first_one_trains(
    command: Command, make_spec: Callable[..., Any]
):
    directory = command.location.directory
    training = directory / "scratch" / "own" / "0"
    training.mkdir(parents=True)
    with (
        open_study(make_spec(study_name="own"), SearchSpace(parameters=()), directory),
        pytest.raises(StoreError, match="study 'own' is being swept by process"),
    ):
        command()
    assert training.exists()


def test_the_study_can_lie_in_a_database_of_its_own(command: Command, tmp_path: Path):
    storage = f"sqlite:///{tmp_path}/elsewhere.db"
    (command.location.directory / "optuna.db").unlink()
    command(finishing, f"hydra.sweeper.storage='{storage}'", "hydra.sweeper.study_name=mine")
    assert len(optuna.load_study(study_name="mine", storage=storage).trials) == 4
    assert not (command.location.directory / "optuna.db").exists()


def test_the_best_of_another_study_is_tried_first(command: Command):
    command(finishing, "hydra.sweeper.n_trials=3", "hydra.sweeper.study_name=first")
    command(
        finishing, "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=second", "hydra.sweeper.enqueue_from=first"
    )
    assert command.study("second").trials[0].params == command.study("first").best_params
    with pytest.raises(ConfigError, match=r"own\.yaml: hydra\.sweeper\.enqueue_from: there is no study 'frist'.*first"):
        command(finishing, "hydra.sweeper.study_name=third", "hydra.sweeper.enqueue_from=frist")


def test_of_another_study_the_best_is_tried_that_has_anything_of_this_space(command: Command):
    storage = f"sqlite:///{command.location.directory}/optuna.db"
    other = optuna.create_study(study_name="other", storage=storage, direction="maximize")
    rate = optuna.distributions.FloatDistribution(1e-3, 1e-1, log=True)
    for name, setting, value in (("momentum", 0.9, 2.0), ("optimizer.lr", 0.03, 0.5), ("optimizer.lr", 0.02, 1.0)):
        distribution = rate if name == "optimizer.lr" else optuna.distributions.FloatDistribution(0, 1)
        other.add_trial(optuna.create_trial(value=value, params={name: setting}, distributions={name: distribution}))
    command(finishing, "hydra.sweeper.n_trials=1", "hydra.sweeper.enqueue_from=other")
    (trial,) = command.study("own").trials
    assert trial.params["optimizer.lr"] == 0.02
