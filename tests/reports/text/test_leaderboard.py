"""What a study came to, as a person reads it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console

from besom.config.objectives import Objective
from besom.reports.read.importance import importances
from besom.reports.read.pareto import Front
from besom.reports.read.summary import Summary, summarize
from besom.reports.text.leaderboard import next_steps, places, render, render_short, study_flags

ACCURACY = Objective(name="val/acc", direction="maximize")
LOSS = Objective(name="val/loss", direction="minimize")
SIZE = Objective(name="cost/params", direction="minimize")
RUN_IDS = {number: f"{number:032x}" for number in range(2000)}


def study(*objectives: Objective) -> optuna.Study:
    directions = [objective.direction for objective in objectives or (ACCURACY,)]
    return optuna.create_study(study_name="own", directions=directions)


def trial(*values: float, state: TrialState = TrialState.COMPLETE, lr: float = 0.01, **changes: Any) -> FrozenTrial:
    mlp = changes.pop("mlp", True)
    constraint = changes.pop("constraint", None)
    params: dict[str, Any] = {
        "model": "mlp" if mlp else "linear",
        "optimizer.lr (model=mlp)" if mlp else "optimizer.lr": lr,
    }
    distributions: dict[str, Any] = {
        "model": CategoricalDistribution(["mlp", "linear"]),
        "optimizer.lr (model=mlp)" if mlp else "optimizer.lr": FloatDistribution(1e-4, 1.0, log=True),
    }
    if mlp:
        params["model.depth"], distributions["model.depth"] = 2, IntDistribution(1, 3)
    about = {"family": "MLPClassifier" if mlp else "LinearRegression", "duration_s": 1.5, "epochs": 10, **changes}
    made = optuna.create_trial(
        state=state, values=values or None, params=params, distributions=distributions, user_attrs={"besom": about}
    )
    if constraint is not None:
        made.system_attrs = {"constraints:cost/params <= 100": constraint}
    return made


def summary(trials: Sequence[FrozenTrial], *objectives: Objective) -> Summary:
    of = study(*objectives)
    of.add_trials(trials)
    return summarize(of, of.trials, objectives or (ACCURACY,), RUN_IDS)


def shown(summary: Summary, *, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render(summary, console))
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


@pytest.mark.parametrize(("objective", "best"), [(ACCURACY, 1), (LOSS, 0)])
def test_the_best_is_by_the_direction(objective: Objective, best: int) -> None:
    found = summary([trial(0.1), trial(0.9), trial(0.5)], objective)
    assert found.best is not None
    assert (found.best.trial, found.best.run_id) == (best, RUN_IDS[best])
    assert [row.trial for row in found.rows] == [best, 2, 1 - best]


def test_a_study_without_a_complete_trial_has_no_best() -> None:
    found = summary([trial(state=TrialState.FAIL, reason="no luck"), trial(state=TrialState.PRUNED)])
    assert found.best is None
    assert (found.failed, found.pruned.count, found.over) == (1, 1, 2)
    assert "1 failed: no luck   (trial 0)" in shown(found)


def test_a_trial_that_breaks_a_constraint_is_not_the_best_and_is_marked() -> None:
    found = summary([trial(0.9, constraint=50.0), trial(0.5, constraint=0.0), trial(0.6, constraint=-1.0)])
    assert found.best is not None
    assert [row.trial for row in found.rows] == [2, 1, 0]
    title, _, first, second, last, *_ = shown(found).splitlines()
    assert title == "leaders of own, 3 complete, 1 of them infeasible"
    assert "infeasible" in last
    assert "infeasible" not in first + second


def test_there_is_no_best_where_every_trial_breaks_a_constraint() -> None:
    assert summary([trial(0.9, constraint=1.0)]).best is None


def test_several_objectives_give_the_pareto_front_with_every_value() -> None:
    values = [(0.9, 90000.0), (0.8, 650.0), (0.7, 2000.0), (0.95, 95000.0)]
    found = summary([*[trial(*pair) for pair in values], trial(0.99, 1.0, constraint=1.0)], ACCURACY, SIZE)
    assert found.front == (3, 0, 1)
    assert found.best is not None
    assert found.best.trial == 3, "the best in the first objective"
    title, heading, *rows = shown(found).splitlines()
    assert title == "Pareto front of own: 3 of 5 complete, 1 of them infeasible"
    assert heading.split()[:3] == ["trial", "val/acc", "cost/params"]
    assert [row.split()[:3] for row in rows[:3]] == [
        ["3", "0.9500", "95000"],
        ["0", "0.9000", "90000"],
        ["1", "0.8000", "650"],
    ]


def test_the_front_keeps_equals_and_drops_what_is_beaten() -> None:
    front = Front([ACCURACY, SIZE])
    assert front.add(0, (0.5, 10.0))
    assert front.add(1, (0.5, 10.0))
    assert not front.add(2, (0.5, 11.0))
    assert front.add(3, (0.5, 9.0))
    assert front.trials == (3,)


def test_pruned_trials_are_counted_with_the_epochs_they_took() -> None:
    pruned = [trial(state=TrialState.PRUNED, epochs=epochs) for epochs in (2, 3)]
    assert "2 pruned, after 2.5 of 10 epochs on average" in shown(summary([trial(0.5), *pruned]))
    unknown = trial(state=TrialState.PRUNED, epochs=None)
    assert "1 pruned\n" in shown(summary([trial(0.5), unknown]))


def test_failures_say_what_they_had_in_common() -> None:
    failed = [trial(state=TrialState.FAIL, reason=f"loss is nan at {step}", lr=0.5 + step / 10) for step in range(5)]
    out = shown(summary([*failed, *[trial(0.5, lr=lr) for lr in (0.01, 0.02, 0.1, 0.2, 0.3, 0.04, 0.05)]]))
    assert "5 failed: loss is nan at 0…4   (trials 0, 1, 2, 3, 4)\n" in out
    assert "  all 5 with optimizer.lr above 0.3; none of the 7 others\n" in out


@pytest.mark.parametrize("width", [60, 80, 140, 200])
def test_the_report_keeps_to_the_width_and_shows_every_param(width: int) -> None:
    out = shown(summary([trial(0.5 + number / 100, mlp=number % 2 == 0) for number in range(20)]), width=width)
    assert max(map(len, out.splitlines())) <= width
    assert "0.01" in out
    assert "optimizer.lr (model=mlp)  0.01" not in out


def test_what_is_no_model_of_ours_has_no_column_for_it() -> None:
    assert " model " not in shown(summary([trial(0.5, mlp=False, family="unknown")])).splitlines()[1]


def test_the_short_form_is_one_line() -> None:
    console = Console(file=io.StringIO(), width=200)
    failed = trial(state=TrialState.FAIL, reason="no luck")
    console.print(render_short(summary([trial(0.5), trial(0.75), trial(state=TrialState.PRUNED, epochs=None), failed])))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "2 complete, 1 pruned, 1 failed; best val/acc 0.7500 (trial 1)\n"


def test_importances_name_what_mattered_and_are_left_out_where_nothing_can_be_told() -> None:
    def of(count: int, *, constant: bool = False) -> optuna.Study:
        made = study()
        made.add_trials(
            trial(0.5 if constant else lr, lr=lr, mlp=index % 2 == 0)
            for index in range(count)
            for lr in [(index * 37 % count + 1) / (count + 1)]
        )
        return made

    found = importances(of(60))
    if optuna.__version__ < "5":  # 4 evaluates what all trials have: here the model alone
        assert found.shares == {}
    else:
        assert found.method == "PED-ANOVA"
        assert sum(found.shares.values()) == pytest.approx(1)
        assert next(iter(found.shares)).startswith("optimizer.lr")
    assert importances(of(5)).shares == {}
    assert importances(of(60, constant=True)).shares == {}


def test_importances_are_shares_of_the_variance_also_where_most_trials_agree_in_what_matters() -> None:
    # Hydra's sphere: x**2 + y**2 over x in -5.5 to 5.5 and y of -5, 0 and 5, which accounts for most of the variance.
    made = optuna.create_study()
    space: dict[str, BaseDistribution] = {
        "x": FloatDistribution(-5.5, 5.5, step=0.5),
        "y": CategoricalDistribution([-5, 0, 5]),
    }
    for index in range(20):
        x, y = -5.5 + index * 7 % 23 * 0.5, (0, 0, 0, 5, -5)[index % 5]
        made.add_trial(create_trial(params={"x": x, "y": y}, distributions=space, value=x * x + y * y))
    found = importances(made)
    assert found.method == "fANOVA"
    assert list(found.shares) == ["y", "x"]
    assert found.shares["y"] > 0.6


def test_next_steps_and_places_name_commands_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAKELEVEL", raising=False)
    found = summary([trial(0.5)])
    assert found.best is not None
    console = Console(file=io.StringIO(), width=80)
    places(console, {"study": "mlruns/optuna.db", "log": "mlruns/logs/own/sweep.log"})
    next_steps(console, found.best, found)
    assert isinstance(console.file, io.StringIO)
    assert [line.split("   ")[0].strip() for line in console.file.getvalue().splitlines()] == [
        "study", "log", "", "besom ui", f"besom reproduce {RUN_IDS[0]}", "besom best own",
    ]  # fmt: skip


@pytest.mark.parametrize(("trusted", "flag"), [("", " --trust own_net"), ("own_net", "")])
def test_the_next_steps_of_a_users_own_model_work_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: str, flag: str
) -> None:
    monkeypatch.delenv("MAKELEVEL", raising=False)
    monkeypatch.setenv("BESOM_TRUST", trusted)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_net.py").touch()
    best = replace(summary([trial(0.5)]).rows[0], family="Net")
    found = replace(summary([trial(0.5)]), rows=(best,), targets=("own_net.Net", "torch.optim.Adam"))
    console = Console(file=io.StringIO(), width=200)
    next_steps(console, best, found)
    assert isinstance(console.file, io.StringIO)
    assert f"besom reproduce {RUN_IDS[0]}{flag}   " in console.file.getvalue()


@pytest.mark.parametrize("family", ["unknown", "Net"])
def test_the_best_run_of_another_app_is_reproduced_if_its_command_is_known(family: str) -> None:
    def steps(described: dict[str, Any], *flags: str) -> list[str]:
        found = replace(summary([trial(0.5)]), described={"app": "hydra", **described})
        console = Console(file=io.StringIO(), width=200)
        next_steps(console, replace(found.rows[0], family=family), found, flags=flags)
        assert isinstance(console.file, io.StringIO)
        return [line.split("   ")[0].strip() for line in console.file.getvalue().splitlines()]

    assert steps({}) == ["besom ui", "besom best own"]
    again = f"besom reproduce {RUN_IDS[0]} --trust theirs"
    known = {"command": ["theirs.py", "--config-name=big"]}
    assert steps(known) == ["besom ui", again, "python theirs.py --config-name=big $(besom best own)"]
    elsewhere = "besom best own '--storage=postgresql://me:***@db/x?a&b'"
    assert steps({}, *study_flags(Path("mlruns"), "postgresql://me:secret@db/x?a&b"))[-1] == elsewhere
    assert steps({}, *study_flags(Path("kept/mlruns")))[-1] == "besom best own --directory=kept/mlruns"


def test_a_heading_is_not_broken_at_the_width_of_its_table() -> None:
    long = replace(summary([trial(0.5)]), study="a study of a long name that is wider than its own small table")
    assert "leaders of a study of a long name that is wider than its own small table, 1 complete" in shown(long)


def test_places_are_told_as_they_are_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    console = Console(file=io.StringIO(), width=200)
    log, database = tmp_path / "mlruns/sweep.log", tmp_path / "mlruns/optuna.db"
    places(console, {"log": str(log), "study": f"sqlite:///{database}", "runs": "http://elsewhere:5000"})
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().split() == [
        "log", "mlruns/sweep.log", "study", "sqlite:///mlruns/optuna.db", "runs", "http://elsewhere:5000"
    ]  # fmt: skip
