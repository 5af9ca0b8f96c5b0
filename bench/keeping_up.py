"""Measure whether the parent keeps up: a whole sweep of digits, compared with only training the same trials.

    PYTHONPATH=. python bench/keeping_up.py [TRIALS] [MEMBERS] [ROUNDS]

The sweep is `besom sweep digits` in two slots, from epoch 0 of its first trial to the end of its last trial: asked,
composed, reported, told and recorded. Then two processes train the same trials again, in the same order and in bundles
of the same size, and do nothing else. Prints the trials per second of both, and the ratio.
"""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from hydra import compose, initialize_config_dir

from bench.bundles import Task, besom
from bench.stack import Config, bundled
from besom.config.checks import resolved
from besom.config.hydra_versions import VERSION_BASE
from besom.config.paths import conf_dir, search_path
from besom.config.schema import register_schemas
from besom.training.fit import build_data

SLOTS = 2
EPOCHS = 20


def sweep(trials: int, members: int, seed: int, folder: Path) -> tuple[float, list[list[str]]]:
    """Run the sweep; return its seconds, and its trials as Hydra overrides."""
    seconds = besom(str(members))(Task("digits", trials, EPOCHS, folder), seed, folder).seconds
    with sqlite3.connect(folder / "mlruns" / "optuna.db") as study:
        rows = study.execute(
            "SELECT value_json FROM trial_user_attributes JOIN trials USING (trial_id) "
            "WHERE key = 'besom.overrides' ORDER BY number"
        ).fetchall()
    return seconds, [json.loads(value) for (value,) in rows]


def composed(overrides: Sequence[str]) -> Config:
    """Return the resolved config of a trial."""
    shared = ["trainer=cpu", "threads=1", f"trainer.max_epochs={EPOCHS}", "data.split_seed=0"]
    register_schemas()
    with search_path([conf_dir()]), initialize_config_dir(config_dir=str(conf_dir()), **VERSION_BASE):
        return resolved(compose("train", [*shared, "objective=val/acc", "direction=maximize", *overrides]))


def train_unbundled(trials: Sequence[Config], members: int) -> float:
    """Return the seconds that the same trials take if nothing else is done."""
    spawn = multiprocessing.get_context("spawn")
    bundles = spawn.Queue()
    for start in range(0, len(trials), members):
        bundles.put(trials[start : start + members])
    for _ in range(SLOTS):
        bundles.put(None)
    ready = spawn.Barrier(SLOTS + 1)
    processes = [spawn.Process(target=_train, args=(bundles, ready, trials[0])) for _ in range(SLOTS)]
    for process in processes:
        process.start()
    ready.wait()
    began = time.perf_counter()
    for process in processes:
        process.join()
    return time.perf_counter() - began


def _train(bundles: Queue[Sequence[Config] | None], ready: Barrier, some: Config) -> None:
    warnings.filterwarnings("ignore")
    build_data(some)  # the workers of the sweep have also read the data by epoch 0
    ready.wait()
    while configs := bundles.get():
        bundled(len(configs))(list(configs))


def main(trials: int = 200, members: int = 8, rounds: int = 3) -> None:
    """Measure and print."""
    ratios = []
    for seed in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            swept_s, overrides = sweep(trials, members, seed, Path(folder))
        alone_s = train_unbundled([composed(one) for one in overrides], members)
        ratios.append(alone_s / swept_s)
        print(
            f"{trials / swept_s:.1f} trials a second end to end, {trials / alone_s:.1f} in training alone: "
            f"{ratios[-1]:.2f} of it",
            flush=True,
        )
    print(f"the median of {rounds}: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
