"""Randomly damaged sweep files and configs: each runs, or is refused in one to three lines with file and place."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from besom.cli import main
from tests.mutations import Torn, riddle, torn_files

TORN = list(islice(torn_files(seed=0), 24))  # a thousand: python bench/torn_files.py


@pytest.mark.parametrize("torn", TORN, ids=lambda torn: torn.what)
def test_a_torn_file_runs_or_is_refused_by_file_and_place(
    torn: Torn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    code = main(["sweep", *torn.write(tmp_path), "--dry-run"])
    assert riddle(code, capsys.readouterr().err) is None
