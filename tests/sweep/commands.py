"""`besom sweep` of a small sweep file in this process, with fake workers, and its recorded runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
from hydra._internal.callbacks import Callbacks
from hydra.types import HydraContext
from mlflow import MlflowClient
from mlflow.entities import Run

from besom.cli.hydra_main import train_task
from besom.hydra_app.app import swept_app
from besom.sweep.run import run_sweep
from besom.tracking.store import Location
from tests.conftest import App
from tests.fakes import FakeLauncher, Play, finishing

SWEEP = """
defaults:
  - train
  - override data: digits
  - override trainer: cpu
  - override hydra/sweeper: besom
  - _self_
objective: val/acc
direction: maximize
hydra:
  sweeper:
    n_trials: 4
    params:
      model: choice(logistic_regression, mlp_classifier)
      optimizer.lr: tag(log, interval(1e-3, 1e-1))
    when:
      model=mlp_classifier: {model.depth: "range(1, 4)"}
"""


class Command:
    """`besom sweep own.yaml` with fake workers and overrides on its command line."""

    def __init__(self, folder: Path, location: Location, load_app: Callable[..., App]) -> None:
        self.location = location
        self._folder = folder
        self._load_app = load_app

    def __call__(self, play: Play = finishing, *overrides: str) -> None:
        loader, config = self._load_app(self._folder, "own", *overrides)
        self.launcher = FakeLauncher(play)
        context = HydraContext(config_loader=loader, callbacks=Callbacks())
        run_sweep(swept_app(config, config.hydra.overrides.task, context, train_task, launcher=self.launcher))

    def study(self, name: str) -> optuna.Study:
        """Return the study as another process reads it."""
        return optuna.load_study(study_name=name, storage=f"sqlite:///{self.location.directory}/optuna.db")

    def runs(self) -> tuple[list[Run], list[Run]]:
        """Return the study's runs, and those of its trials."""
        runs = self.all_runs()
        return (
            [run for run in runs if run.data.tags.get("besom.kind") == "study"],
            [run for run in runs if "besom.trial" in run.data.tags],
        )

    def all_runs(self) -> list[Run]:
        """Return all runs of the store."""
        client = MlflowClient(self.location.uri)
        return list(client.search_runs([found.experiment_id for found in client.search_experiments()]))
