"""`besom report` of a stored study: its page, the terminal, and JSON."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from besom.cli import main
from besom.config.paths import file_name
from besom.system.locks import locked
from tests.reports.swept import grid, trial

HERE = "sqlite:///mlruns/optuna.db"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "mlruns").mkdir()


def kept(name: str, *trials: optuna.trial.FrozenTrial, total: int | None = 12) -> None:
    made = optuna.create_study(study_name=name, storage=HERE, direction="maximize")
    made.set_user_attr("besom.spec", {"objectives": [["val/acc", "maximize"]], "source": "digits.yaml"})
    made.set_user_attr("besom.token", "abc")
    made.set_user_attr("besom.n_trials", total)
    made.add_trials(trials)


def said(line: str, capsys: pytest.CaptureFixture[str], *, code: int = 0) -> str:
    assert main(shlex.split(line)) == code
    out, err = capsys.readouterr()
    assert bool(err) == bool(code)
    return err if code else out


def test_a_report_is_shown_and_its_page_named_last(capsys: pytest.CaptureFixture[str]) -> None:
    kept("a study", *grid(12))
    lines = said("report 'a study'", capsys).splitlines()
    assert lines[:2] == ["a study complete", "Best val/acc is 0.8667: trial 11 (MLPClassifier), of 12 complete."]
    assert lines[-1] == f"mlruns/reports/{file_name('a study')}.html"
    assert any("by PED-ANOVA" in line for line in lines)
    text = Path(lines[-1]).read_text()
    assert "MLflow has no runs of this study here" in text
    assert "optimizer.lr" in text


def test_json_names_the_page_too(capsys: pytest.CaptureFixture[str]) -> None:
    kept("own", *grid(12))
    found = json.loads(said("report own --json -o there/own.html", capsys))
    assert (found["best"]["trial"], found["report"]) == (11, "there/own.html")
    assert Path("there/own.html").is_file()
    assert not Path("mlruns/reports").exists()


def test_a_study_that_runs_is_shown_as_far_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    kept("own", trial(0.5), optuna.create_trial(state=TrialState.RUNNING))
    with locked(Path("mlruns/locks/own.lock"), wait=False):
        found = json.loads(said("report own --json", capsys))
    assert found["state"].startswith("running (pid ")
    assert found["trials"] == {"running": 1, "complete": 1}
    assert found["answer"][-1].startswith("So far: 1 of 12 trials are over (running (pid ")


def test_a_study_without_trials_has_a_report_that_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    kept("own")
    lines = said("report own", capsys).splitlines()
    assert lines[:2] == ["own not started", "No trial was asked yet."]
    assert Path(lines[-1]).is_file()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("report", "besom: report: the following arguments are required: STUDY; see besom report --help"),
        ("report nope", "besom: study 'nope' does not exist; use one of own"),
        ("report own --directory nowhere", "besom: there are no studies: nowhere/optuna.db does not exist"),
        ("report own -o mlruns", "besom: --output: mlruns cannot be written (Is a directory); name another file"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(line: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    kept("own", *grid(3))
    err = said(line, capsys, code=2)
    assert err.startswith(told)
    assert err.count("\n") == 1
