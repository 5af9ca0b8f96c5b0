from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call() -> None:
    hide_the_test()


def hide_the_test() -> None:
    """Let workers not see which test runs: those of one environment come from one nursery, which saves seconds each."""
    os.environ.pop("PYTEST_CURRENT_TEST", None)


@pytest.fixture(scope="session")
def _modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modules")


@pytest.fixture
def folder(_modules: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that workers import from, empty; by the same path in each test, for the nursery's sake."""
    hide_the_test()
    shutil.rmtree(_modules)
    _modules.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(_modules))
    return _modules
