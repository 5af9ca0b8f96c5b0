from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def _modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modules")


@pytest.fixture
def folder(_modules: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that workers import from; its path is always the same, so that the fork server is reused."""
    shutil.rmtree(_modules)
    _modules.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(_modules), prepend=os.pathsep)
    return _modules
