from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def _modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modules")


@pytest.fixture
def folder(_modules: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that workers import from, empty; by the same path in each test, for the nursery's sake."""
    shutil.rmtree(_modules)
    _modules.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(_modules))
    return _modules
