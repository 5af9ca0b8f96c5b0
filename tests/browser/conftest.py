"""A real browser, and a study for it to look at.

With BESOM_SCREENSHOTS=docs/images that is the whole of sweeps/digits.yaml, and the documentation's pictures are made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from besom.system.locks import locked
from besom.tracking.store import Location
from tests.forking import run
from tests.running import BESOM, environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PICTURES = os.environ.get("BESOM_SCREENSHOTS")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where the browser is; asked for first of all, since what comes next takes seconds."""
    pytest.importorskip("playwright", reason="needs the extra 'browser': playwright")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs a Chromium on PATH: {', '.join(BROWSERS)}")
    return program


@pytest.fixture(scope="session")
def study(chromium: str, tmp_path_factory: pytest.TempPathFactory, put_store: Callable[[Path], Location]) -> Path:
    """A folder with a study of digits, recorded once for all test processes."""
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    root = tmp_path_factory.getbasetemp().parent if parallel else tmp_path_factory.getbasetemp()
    folder = root / "browser-study"
    short = ["hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=1", "trainer.max_epochs=2"]
    small = [*short, "hydra.sweeper.finalists=null"]
    with locked(root / "browser-study.lock", wait=True):
        if not folder.exists():
            put_store(folder / "mlruns")
            run(
                [*BESOM, "sweep", "digits", *([] if PICTURES else small)],
                cwd=folder,
                env=environment(),
                check=True,
                timeout=300,
                stdout=subprocess.DEVNULL,
            )
    return folder


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        yield opened
        opened.close()
