"""Starts sweeps of `app.job` without the seconds of imports: it has them behind it, and forks for each line it reads.

A line is the folder of a sweep; the answer is the process id of its parent.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

# Everything that a parent imports in its life, so that a fork has it at once.
import hydra
import mlflow.store.tracking.sqlalchemy_store
import optuna.importance
from hydra.core.plugins import Plugins
from mlflow import MlflowClient

import besom.sweep.run
from tests.chaos.app import job

CONFIG = """\
defaults: [_self_, {override hydra/sweeper: besom}, {override hydra/sweeper/sampler: random},
           {override hydra/sweeper/pruner: median}]
x: 0.0
depth: 1
folder: ???
hydra:
  mode: MULTIRUN
  output_subdir: null
  sweep: {dir: jobs, subdir: .}
  sweeper:
    study_name: chaos
    direction: maximize
    n_trials: 24
    n_jobs: 2
    trials_per_device: 2
    devices: cpu
    retries: 1
    tracking: true
    params: {x: "interval(0.0, 1.0)", depth: "range(1, 4)"}
"""


def sweep(folder: Path) -> None:
    os.setsid()
    os.chdir(folder)
    output = os.open("sweep.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    Path("config.yaml").write_text(CONFIG, encoding="utf-8")
    sys.argv = ["chaos", f"folder={folder}"]
    hydra.main(version_base="1.3", config_path=str(folder), config_name="config")(job)()


def main() -> None:
    Plugins.instance()
    assert MlflowClient
    assert optuna.importance.FanovaImportanceEvaluator
    assert mlflow.store.tracking.sqlalchemy_store
    assert besom.sweep.run
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            sys.stdin.close()
            try:
                sweep(Path(line.strip()))
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
            (Path(line.strip()) / f"code-{os.getpid()}").write_text(str(code))
            os._exit(code)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
