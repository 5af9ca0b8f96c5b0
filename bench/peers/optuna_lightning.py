"""Optuna and Lightning in one process, as in their tutorials.

    PYTHONPATH=. python bench/peers/optuna_lightning.py --data digits --trials 4 --epochs 5 --folder EMPTY

`study.optimize` with an objective that trains one trial with a DataLoader and an MLFlowLogger. The number of threads is
torch's default, unless --threads or OMP_NUM_THREADS sets it.
"""

from __future__ import annotations

import optuna
import torch

from bench.peers.side import Clock, Settings, run
from bench.peers.space import draw, suggest
from bench.peers.training import prepare, train


def sweep(settings: Settings, clock: Clock) -> float:
    def objective(trial: optuna.Trial) -> float:
        return train(suggest(trial, settings.data), settings, name=f"trial-{trial.number}")

    if settings.threads:
        torch.set_num_threads(settings.threads)
    prepare(settings.folder)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=settings.seed))
    for parameters in draw(settings.data, settings.trials, settings.seed) if settings.same else ():
        study.enqueue_trial(parameters)
    with clock.running():
        study.optimize(objective, n_trials=settings.trials)
    return study.best_value


if __name__ == "__main__":
    run(sweep, __doc__)
