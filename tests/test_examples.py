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


@pytest.fixture
def example(tmp_path: Path, put_store: Callable[[Path], Location]) -> Callable[[str], Path]:
    """Return a copy of an example's folder, with an empty store."""

    def copy(name: str) -> Path:
        shutil.copytree(EXAMPLES / name, tmp_path / name)
        put_store(tmp_path / name / "mlruns")
        return tmp_path / name

    return copy


def sweep(name: str, *overrides: str, cwd: Path) -> str:
    """Sweep an example for a few short trials on a CPU, and return what the command printed."""
    few = ("hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1", "trainer=cpu", *overrides)
    said = besom("sweep", name, "--config-dir", "conf", *few, cwd=cwd)
    assert f"leaders of {name}, 2 complete" in said
    return said


def test_a_package_of_the_users_own_is_swept_and_its_best_run_is_reproduced(example: Callable[[str], Path]) -> None:
    folder = example("two_spirals")
    said = sweep("spirals", "trainer.max_epochs=3", cwd=folder)
    assert "Residual" in said
    assert "REPRODUCED" in besom("reproduce", said.split()[-1], "--trust", "spirals", cwd=folder)


def test_a_gan_with_two_optimizers_is_swept_and_its_drawings_are_recorded(example: Callable[[str], Path]) -> None:
    folder = example("gan")
    run_id = sweep("gan", "trainer.max_epochs=2", "model.width=4", cwd=folder).split()[-1]
    assert "REPRODUCED" in besom("reproduce", run_id, "--trust", "gan", cwd=folder)
    drawings = list(folder.glob("mlruns/artifacts/**/samples/samples.png"))
    assert len(drawings) == 3
    predict = [*BESOM, "predict", run_id, str(drawings[0])]
    refused = run(predict, cwd=folder, env=environment(), capture_output=True, timeout=300)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "it cannot be rebuilt; load its weights yourself" in refused.stderr


def test_a_transformer_on_endless_data_warms_up_step_by_step(example: Callable[[str], Path]) -> None:
    folder = example("transformer")
    short = ("trainer.max_epochs=2", "trainer.limit_train_batches=10", "model.width=8", "model.warm_up=0.5")
    said = besom(
        "sweep", "recall", "--config-dir", "conf", "hydra.sweeper.n_trials=1", "trainer=cpu", *short, cwd=folder
    )
    assert "REPRODUCED" in besom("reproduce", said.split()[-1], "--trust", "recall", cwd=folder)
    (first, _) = (path.read_text("utf-8") for path in folder.glob("mlruns/artifacts/**/csv/metrics.csv"))
    assert "lr-AdamW" in first


@pytest.mark.data
def test_a_resnet_on_fashion_mnist_is_swept(example: Callable[[str], Path]) -> None:
    small = ("data.limit=300", "model.width=2", "model.blocks=1", "trainer.max_epochs=1", "trainer.precision=32-true")
    assert "ResNet" in sweep("resnet", *small, cwd=example("resnet"))
