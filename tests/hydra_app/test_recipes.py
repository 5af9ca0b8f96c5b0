"""Small apps with the structure of those in docs/recipes.md, which no library of theirs is needed for."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import optuna
import yaml

from tests import forking
from tests.running import environment


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")


def run(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return forking.run(
        [sys.executable, *arguments], cwd=folder, env=environment(**changes), capture_output=True, timeout=300
    )


TEMPLATE = {
    "src/__init__.py": "",
    "src/net.py": """\
        class Net:
            def __init__(self, width, lr):
                self.accuracy = 1 - abs(lr - 0.01) - 1 / width
        """,
    "src/utils.py": """\
        import logging

        def task_wrapper(task_func):
            def wrap(cfg):
                try:
                    return task_func(cfg=cfg)
                finally:
                    logging.getLogger(__name__).info(f"Output dir: {cfg.paths.output_dir}")

            return wrap
        """,
    "src/train.py": """\
        import os
        import sys

        import hydra

        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        os.environ["PROJECT_ROOT"] = root
        sys.path.insert(0, root)

        from src.utils import task_wrapper

        @task_wrapper
        def train(cfg):
            return {"val/acc_best": hydra.utils.instantiate(cfg.model).accuracy}, {"cfg": cfg}

        @hydra.main(version_base="1.3", config_path="../configs", config_name="train.yaml")
        def main(cfg):
            metric_dict, _ = train(cfg)
            return metric_dict[cfg.get("optimized_metric")]

        if __name__ == "__main__":
            main()
        """,
    "configs/train.yaml": """\
        # @package _global_
        defaults:
          - _self_
          - model: net
          - paths: default
          - hydra: default
          - experiment: null
          - hparams_search: null
          - optional local: default
        task_name: train
        """,
    "configs/model/net.yaml": "{_target_: src.net.Net, width: 4, lr: 0.1}\n",
    "configs/paths/default.yaml": """\
        root_dir: ${oc.env:PROJECT_ROOT}
        log_dir: ${paths.root_dir}/logs/
        output_dir: ${hydra:runtime.output_dir}
        """,
    "configs/hydra/default.yaml": """\
        run: {dir: "${paths.log_dir}/${task_name}/runs/${now:%Y-%m-%d}_${now:%H-%M-%S}"}
        sweep:
          dir: ${paths.log_dir}/${task_name}/multiruns/${now:%Y-%m-%d}_${now:%H-%M-%S}
          subdir: ${hydra.job.num}
        job_logging: {handlers: {file: {filename: "${hydra.runtime.output_dir}/${task_name}.log"}}}
        """,
    "configs/experiment/example.yaml": """\
        # @package _global_
        defaults: [{override /model: net}]
        model: {width: 16}
        """,
    "configs/hparams_search/mnist_optuna.yaml": """\
        # @package _global_
        defaults:
          - override /hydra/sweeper: besom
        optimized_metric: val/acc_best
        hydra:
          mode: MULTIRUN
          sweeper:
            _target_: hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper
            storage: null
            study_name: null
            n_jobs: 1
            direction: maximize
            n_trials: 3
            sampler: {_target_: optuna.samplers.TPESampler, seed: 1234, n_startup_trials: 10}
            params:
              model.lr: interval(0.0001, 0.1)
        """,
}


def test_search_of_lightning_hydra_template_runs_but_for_the_name_of_its_sweeper(tmp_path: Path) -> None:
    write(tmp_path, TEMPLATE)
    done = run(tmp_path, "src/train.py", "hparams_search=mnist_optuna", "experiment=example")
    assert done.returncode == 0, done.stderr
    study = optuna.load_study(study_name="train", storage=f"sqlite:///{tmp_path}/mlruns/optuna.db")
    assert [trial.state.is_finished() for trial in study.get_trials()] == [True] * 3
    assert "study train: maximize value; 3 of 3 trials to go" in done.stdout
    (folder,) = (tmp_path / "logs" / "train" / "multiruns").iterdir()
    results = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert results["best_value"] == study.best_value
    for number, trial in enumerate(study.get_trials()):
        assert f"Output dir: {folder / str(number)}" in (folder / str(number) / "train.log").read_text()
        config = yaml.safe_load((folder / str(number) / ".hydra" / "config.yaml").read_text())
        assert config["model"] == {"_target_": "src.net.Net", "width": 16, "lr": trial.params["model.lr"]}


IN_PYTHON = {
    "theirs/__init__.py": "",
    "theirs/configs.py": """\
        from dataclasses import dataclass, field

        from hydra.core.config_store import ConfigStore
        from hydra_plugins.besom_sweeper.config import OptunaSweeperConf, TPESamplerConfig

        @dataclass
        class TPE(TPESamplerConfig):
            seed: int = 1234

        @dataclass
        class Search(OptunaSweeperConf):
            defaults: list = field(default_factory=lambda: ["_self_", {"sampler": "custom_tpe"}])
            direction: str = "${mode}imize"
            n_trials: int = 2
            params: dict = field(default_factory=lambda: {"lr": "interval(${lowest}, 1.0)"})

        @dataclass
        class Config:
            defaults: list = field(default_factory=lambda: ["_self_", {"override hydra/sweeper": "custom_optuna"}])
            mode: str = "max"
            lowest: float = 0.5
            lr: float = 0.1

        store = ConfigStore.instance().store
        store(group="hydra/sweeper/sampler", name="custom_tpe", node=TPE)
        store(group="hydra/sweeper", name="custom_optuna", node=Search)
        store(name="config", node=Config)
        """,
    "theirs/train.py": """\
        import functools

        import hydra

        import theirs.configs

        def zen(task):
            @functools.wraps(task)
            def wrapper(cfg):
                return task(cfg.lr)

            return hydra.main(version_base="1.3", config_path=None, config_name="config")(wrapper)

        def train(lr):
            return lr

        if __name__ == "__main__":
            zen(train)()
        """,
}


def test_app_in_python_alone_builds_its_search_on_the_dataclasses_and_runs_as_a_module(tmp_path: Path) -> None:
    write(tmp_path, IN_PYTHON)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run(tmp_path, "-m", "theirs.train", "--multirun", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "study train: maximize value; 2 of 2 trials to go" in done.stdout
    study = optuna.load_study(study_name="train", storage=f"sqlite:///{tmp_path}/mlruns/optuna.db")
    assert [trial.values == [trial.params["lr"]] and trial.params["lr"] >= 0.5 for trial in study.get_trials()] == [
        True
    ] * 2
