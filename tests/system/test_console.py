"""Printed text is plain: names and values are not interpreted as markup."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from besom.reports.text.leaderboard import render
from besom.reports.text.terminal import show
from besom.system.console import plain_console
from tests.reports.swept import report, trial

SRC = Path(__file__).parents[2] / "src"
HOSTILE = ["[/foo]", "[bold", "[red]x[/red]", "[link=http://evil.example]x", ":warning:", "\\[a]"]


@pytest.mark.parametrize("words", HOSTILE)
def test_a_report_shows_names_and_values_that_look_like_markup_as_they_are(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"model.act": CategoricalDistribution((words, "relu"))}
    trials = [trial(0.5, space=space, model_act=words, family=words), trial(0.25, space=space, model_act="relu")]
    trials.append(trial(state=TrialState.FAIL, reason=words, space=space, model_act=words))
    found = report(trials, name=words)
    monkeypatch.setenv("COLUMNS", "300")
    console = plain_console()
    with console.capture() as captured:
        show(found, console)
        console.print(render(found.summary, console))
    assert captured.get().count(words) >= 8


def test_every_console_is_a_plain_one() -> None:
    made = [path.name for path in SRC.rglob("*.py") if re.search(r"\bConsole\(", path.read_text(encoding="utf-8"))]
    assert made == ["console.py"]


def test_a_plain_console_prints_what_it_is_given() -> None:
    console = plain_console()
    console.file = io.StringIO()
    for words in HOSTILE:
        console.print(words)
    assert console.file.getvalue().splitlines() == HOSTILE
