"""Commands whose output cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console

from besom.config.objectives import Objective
from besom.sweep.progress.counts import TrialCounts
from besom.sweep.progress.display import PlainObserver
from besom.sweep.progress.events import Ended
from besom.system.output import lossy_output
from besom.workers.messages import TrialResult

VERSION = f"{sys.executable} -m besom.cli --version"


@pytest.fixture
def gone() -> Iterator[IO[str]]:
    """A pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:  # noqa: PTH123
        yield stream


def sweep_three(console: Console) -> int:
    """Return the number of trials that a sweep's observer received, to the end."""
    with PlainObserver(
        console, TrialCounts((Objective(name="val/acc", direction="maximize"),), total=3, timeout_s=None)
    ) as observer:
        for trial in range(3):
            observer(Ended(trial=trial, result=TrialResult(values=(0.5,))))
    return 3


def test_a_reader_that_goes_away_ends_no_training(gone: IO[str], monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(BrokenPipeError):
        sweep_three(Console(file=gone))
    monkeypatch.setattr(sys, "stdout", gone)
    with lossy_output():
        assert sweep_three(Console()) == 3
    assert sys.stdout is gone
    gone.flush()  # as Python does at the end


def test_a_full_disk_of_what_is_printed_is_told_once_and_ends_no_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with lossy_output():
            assert sweep_three(Console()) == 3
    assert capsys.readouterr().err == (
        "besom: warning: what is printed is lost from here on (No space left on device); everything else goes on\n"
    )


@pytest.mark.parametrize(
    ("where", "code", "told"),
    [
        (">&- 2>&-", 0, ""),
        ("<&- >&-", 0, ""),
        ("| :", 0, ""),
        (">/dev/full", 2, "besom: what is printed: cannot be written (No space left on device); make room on the disk"),
    ],
)
def test_a_command_ends_as_it_went_wherever_its_output_goes(where: str, code: int, told: str, tmp_path: Path):
    command = f"set -o pipefail; {VERSION} {where}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (ended.returncode, ended.stderr.strip()) == (code, told)
