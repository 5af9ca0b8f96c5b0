"""The peer: Hydra with hydra-optuna-sweeper, one job after the other, as its documentation shows it.

    PYTHONPATH=. ENVIRONMENT/bin/python bench/peers/hydra_optuna.py --data digits --trials 4 --epochs 5 --folder EMPTY

It needs the environment of requirements-hydra.txt, which bench/peers/environments.py makes: the sweeper pins Optuna 2.
The conditional parameters are suggested by the sweeper's `custom_search_space`.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra_plugins.hydra_optuna_sweeper import _impl  # noqa: F401  before the clock, not within
from omegaconf import DictConfig, OmegaConf

from bench.peers.side import Clock, Settings, run
from bench.peers.space import NAMES
from bench.peers.training import prepare, train


@hydra.main(version_base="1.3", config_path=None, config_name="peer")
def app(config: DictConfig) -> float:
    """Train one job."""
    parameters = {name: config[name] for name in NAMES if config[name] is not None}
    return train(parameters, Settings(**config.settings), name=f"job-{HydraConfig.get().job.num}")


def peer_config(settings: Settings) -> dict[str, object]:
    """Return the app's config: its keys, and the sweeper's."""
    return {
        "defaults": ["_self_", {"override hydra/sweeper": "optuna"}, {"override hydra/sweeper/sampler": "tpe"}],
        **dict.fromkeys(NAMES),
        "settings": asdict(settings),
        "hydra": {
            "sweep": {"dir": str(settings.folder / "multirun")},
            "sweeper": {
                "sampler": {"seed": settings.seed},
                "direction": "maximize",
                "study_name": "bench",
                "storage": None,
                "n_trials": settings.trials,
                "n_jobs": 1,
                "custom_search_space": "bench.peers.space.configure",
            },
        },
    }


def sweep(settings: Settings, clock: Clock) -> float:
    if settings.threads:
        torch.set_num_threads(settings.threads)
    prepare(settings.folder)
    ConfigStore.instance().store(name="peer", node=peer_config(settings))
    Plugins.instance()  # imports every plugin that is installed
    sys.argv[1:] = ["--multirun"]
    with clock.running():
        app()
    results = OmegaConf.load(settings.folder / "multirun" / "optimization_results.yaml")
    return results.best_value


if __name__ == "__main__":
    run(sweep, __doc__)
