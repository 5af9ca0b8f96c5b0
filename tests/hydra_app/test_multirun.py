"""The folder of a multirun, and the folders of its jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from besom.hydra_app.multirun import make_folder
from tests.hydra_app.conftest import App

MakeApp = Callable[..., App]


@pytest.mark.parametrize("key", ["hydra.sweep.dir=multirun/${now:%Y}", "hydra.sweep.dir=${folder}/a"])
def test_folder_named_after_the_time_is_that_of_one_app(hydra_app: MakeApp, key: str) -> None:
    app = hydra_app("lr: 0.1\nfolder: multirun/${now:%Y}/${lr}\n", key)
    first, second = app.config.copy(), app.config.copy()
    make_folder(first)
    make_folder(second)
    assert second.hydra.sweep.dir == f"{first.hydra.sweep.dir}-2"
    for config in (first, second):
        assert OmegaConf.load(Path(config.hydra.sweep.dir, "multirun.yaml")).hydra.sweep.dir == config.hydra.sweep.dir
    job = app.context.config_loader.load_sweep_config(second, ["lr=0.2"])
    assert job.hydra.sweep.dir == second.hydra.sweep.dir


def test_folder_with_a_name_of_its_own_is_used_again(hydra_app: MakeApp) -> None:
    app = hydra_app("lr: 0.1\n")
    make_folder(app.config)
    app.config.lr = 0.2
    make_folder(app.config)
    assert OmegaConf.load(app.folder / "sweep" / "multirun.yaml").lr == 0.2


def test_jobs_that_share_a_folder_record_their_own_files(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> float:
        from hydra.core.hydra_config import HydraConfig

        for file in Path(HydraConfig.get().runtime.output_dir, ".hydra").iterdir():
            file.write_text("another: job", encoding="utf-8")
        return 0.0

    app = hydra_app("lr: 0.1\n", "hydra.sweep.subdir=same")
    app.run(task, ["lr=0.5"], ["lr=0.25"])
    kept = [app.folder / "scratch" / str(number) / ".hydra" for number in range(2)]
    assert [OmegaConf.load(folder / "overrides.yaml") for folder in kept] == [["lr=0.5"], ["lr=0.25"]]
    assert [OmegaConf.load(folder / "config.yaml") for folder in kept] == [{"lr": 0.5}, {"lr": 0.25}]
    assert [OmegaConf.load(folder / "hydra.yaml").hydra.job.num for folder in kept] == [0, 1]
