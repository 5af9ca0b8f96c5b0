"""`besom studies`: the studies of a storage and their progress."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from besom.cli import main
from besom.config.paths import file_name
from besom.studies.cards import age
from besom.system.locks import locked

HERE = "sqlite:///mlruns/optuna.db"
LONG_AGO = datetime(2020, 1, 1)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    (tmp_path / "mlruns").mkdir()


def trial(*values: float, state: TrialState = TrialState.COMPLETE, constraint: float | None = None) -> FrozenTrial:
    made = optuna.create_trial(state=state, values=values or None)
    if constraint is not None:
        made.system_attrs = {"constraints:cost/params <= 100": constraint}
    return made


def study(name: str, *trials: FrozenTrial, total: int | None = 3, storage: str = HERE, size: bool = False) -> None:
    objectives = [["val/acc", "maximize"], *([["cost/params", "minimize"]] if size else [])]
    made = optuna.create_study(study_name=name, storage=storage, directions=[way for _, way in objectives])
    made.set_user_attr("besom.spec", {"objectives": objectives, "fixed": [], "source": "digits.yaml"})
    if total is not None:
        made.set_user_attr("besom.n_trials", total)
    made.add_trials(trials)


def said(line: str, capsys: pytest.CaptureFixture[str], *, code: int = 0) -> str:
    assert main(shlex.split(line)) == code
    out, err = capsys.readouterr()
    assert bool(err) == bool(code)
    return err if code else out


def listed(capsys: pytest.CaptureFixture[str], line: str = "studies --json") -> dict[str, dict[str, Any]]:
    return {card["name"]: card for card in json.loads(said(line, capsys))}


def test_each_study_is_listed_with_its_state_trials_best_and_last_activity(capsys: pytest.CaptureFixture[str]) -> None:
    failed, pruned = trial(state=TrialState.FAIL), trial(state=TrialState.PRUNED)
    study("done", trial(0.5), trial(0.75), failed)
    study("begun", trial(0.5), pruned)
    study("new")
    heading, *rows = said("studies", capsys).splitlines()
    assert heading.split("  ")[0].strip() == "study"
    assert {tuple(cell.strip() for cell in row.split("  ") if cell.strip()) for row in rows} == {
        ("done", "complete", "3/3 (1 failed)", "val/acc 0.7500 (trial 1)", "just now"),
        ("begun", "interrupted", "2/3 (1 pruned)", "val/acc 0.5000 (trial 0)", "just now"),
        ("new", "not started", "0/3", "·", "·"),
    }


def test_a_study_that_is_swept_now_is_running_and_its_process_named(capsys: pytest.CaptureFixture[str]) -> None:
    study("a study", trial(0.5), trial(0.5), trial(0.5))
    lock = Path("mlruns/locks") / f"{file_name('a study')}.lock"
    hold = (
        f"import sys; from pathlib import Path; from besom.system.locks import locked\n"
        f"with locked(Path('{lock}'), wait=False): print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        card = listed(capsys)["a study"]
        assert (card["state"], card["pid"]) == ("running", other.pid)
        assert f"running (pid {other.pid})" in said("studies", capsys)
        other.communicate()
    assert listed(capsys)["a study"]["state"] == "complete"
    with locked(lock, wait=False):  # listing did not keep the lock
        pass


def test_a_trial_that_was_running_when_its_sweep_died_makes_it_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    study("died", trial(0.5), trial(state=TrialState.RUNNING), total=None)
    study("open", trial(0.5), total=None)
    cards = listed(capsys)
    assert (cards["died"]["state"], cards["open"]["state"]) == ("interrupted", "open")
    assert cards["open"]["n_trials"] is None


@pytest.mark.usefixtures("elsewhere")
def test_json_has_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    study("done", trial(0.5), trial(0.75), trial(0.9, constraint=1.0), trial(state=TrialState.PRUNED), total=4)
    card = listed(capsys)["done"]
    assert abs(datetime.fromisoformat(card.pop("last_activity")) - datetime.now().astimezone()) < timedelta(minutes=5)
    assert card == {
        "name": "done", "state": "complete", "pid": None, "n_trials": 4, "complete": 3, "pruned": 1, "failed": 0,
        "objectives": [{"name": "val/acc", "direction": "maximize"}],
        "best": {"trial": 1, "values": [0.75]}, "winner": None, "front": [],
    }  # fmt: skip


def test_several_objectives_show_the_pareto_front(capsys: pytest.CaptureFixture[str]) -> None:
    study("two", trial(0.9, 5000), trial(0.8, 100), trial(0.7, 200), size=True)
    card = listed(capsys)["two"]
    assert card["front"] == [0, 1]
    assert card["best"] == {"trial": 0, "values": [0.9, 5000]}
    assert "2 on the Pareto front of val/acc, cost/params" in said("studies", capsys)


def test_the_latest_study_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    old = trial(0.5)
    old.datetime_start, old.datetime_complete = LONG_AGO, LONG_AGO
    study("old", old)
    study("new", trial(0.5))
    study("other", old)
    assert next(iter(listed(capsys))) == "new"
    assert f"{(datetime.now() - LONG_AGO).days} days ago" in said("studies", capsys)


def test_a_study_that_optuna_made_by_itself_is_listed_too(capsys: pytest.CaptureFixture[str]) -> None:
    optuna.create_study(study_name="[bold]foreign", storage=HERE).add_trial(trial(0.5))
    assert listed(capsys)["[bold]foreign"]["objectives"] == [{"name": "value", "direction": "minimize"}]
    assert "[bold]foreign" in said("studies", capsys)


@pytest.mark.parametrize("line", ["studies --directory other", "studies --storage sqlite:///other/optuna.db"])
def test_another_folder_or_storage_can_be_named(capsys: pytest.CaptureFixture[str], line: str) -> None:
    Path("other").mkdir()
    study("there", trial(0.5), storage="sqlite:///other/optuna.db")
    assert list(listed(capsys, f"{line} --json")) == ["there"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("studies", "mlruns/optuna.db does not exist; start one with besom sweep digits"),
        ("studies --directory nowhere", "nowhere/optuna.db does not exist"),
        ("studies --storage nonsense", "--storage: 'nonsense' is no URL"),
        ("studies --storage mysql://me:secret@nowhere/db", "mysql://me:***@nowhere/db: cannot be used"),
        ("best digits", "mlruns/optuna.db does not exist"),
    ],
)
def test_where_there_is_nothing_one_line_says_so(capsys: pytest.CaptureFixture[str], line: str, told: str) -> None:
    err = said(line, capsys, code=2)
    assert told in err
    assert err.count("\n") == 1
    assert not Path("mlruns/optuna.db").exists()


def test_an_empty_storage_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    study("gone")
    optuna.delete_study(study_name="gone", storage=HERE)
    assert said("studies", capsys, code=2) == "besom: there are no studies yet; start one with besom sweep digits\n"
    assert said("studies --json", capsys) == "[]\n"


def test_a_file_that_is_no_database_is_told_in_one_line_and_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mlruns/optuna.db").write_text("no database at all, but long enough to be read as one" * 50)
    err = said("studies", capsys, code=2)
    assert err.startswith("besom: ")
    assert err.count("\n") == 1
    assert Path("mlruns/optuna.db").read_text().startswith("no database")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-5, "just now"), (59, "just now"), (60, "1 minute ago"), (179, "2 minutes ago"), (3600, "1 hour ago"),
        (7200, "2 hours ago"), (86400, "1 day ago"), (10 * 86400, "10 days ago"),
    ],
)  # fmt: skip
def test_an_age_is_told_in_its_largest_unit(seconds: int, told: str) -> None:
    assert age(timedelta(seconds=seconds)) == told


def test_listing_imports_neither_torch_nor_mlflow() -> None:
    study("done", trial(0.5))
    named = "{'torch', 'mlflow', 'optuna'}"
    code = f"import sys; from besom.cli import main; main(['studies']); print(*{named} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "optuna"
