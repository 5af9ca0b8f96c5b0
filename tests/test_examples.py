"""The examples, as their pages say that they are run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from besom.tracking.store import Location
from tests.forking import run
from tests.running import BESOM, environment

EXAMPLES = Path(__file__).parents[1] / "examples"


def besom(*arguments: str, cwd: Path) -> str:
    done = run([*BESOM, *arguments], cwd=cwd, env=environment(), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def spirals(tmp_path_factory: pytest.TempPathFactory, put_store: Callable[[Path], Location]) -> Path:
    folder = tmp_path_factory.mktemp("example") / "two_spirals"
    shutil.copytree(EXAMPLES / "two_spirals", folder)
    put_store(folder / "mlruns")
    return folder


def test_a_package_of_the_users_own_is_swept_and_its_best_run_is_reproduced(spirals: Path) -> None:
    few = ("hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1", "trainer.max_epochs=3", "trainer=cpu")
    said = besom("sweep", "spirals", "--config-dir", "conf", *few, cwd=spirals)
    assert "leaders of spirals, 3 complete" in said
    assert "Residual" in said
    run_id = said.split()[-1]
    assert "REPRODUCED" in besom("reproduce", run_id, "--trust", "spirals", cwd=spirals)
