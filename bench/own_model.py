"""Measure the gain of bundles for a user's own models, which are stacked by vmap: only training, nothing recorded.

    PYTHONPATH=. python bench/own_model.py [ROUNDS]

Prints the processor time of a trial in milliseconds with one thread, unbundled and in bundles of 2, 4 and 8: the
medians of the rounds, which go through all cases in turn. Also prints how many of the trials shared a stack, because
those that do not gain from it train unbundled.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from bench.stack import Silent, alone
from besom.bundle.train import Entry, train_bundle
from besom.config.checks import resolved
from besom.config.hydra_versions import VERSION_BASE
from besom.config.paths import conf_dir, search_path
from besom.config.schema import register_schemas

SIZES = (2, 4, 8)
OWN = "tests.bundle.own_models"
CASES: Mapping[str, tuple[str, int, Mapping[str, Any]]] = {
    "residual MLP, 2 blocks of 16": ("digits", 10, {"_target_": f"{OWN}.Residual", "width": 16, "depth": 2}),
    "residual MLP, 3 blocks of 64": ("digits", 10, {"_target_": f"{OWN}.Residual", "width": 64, "depth": 3}),
    "conv net of 4 and 8 channels, 8x8": ("digits", 10, {"_target_": f"{OWN}.ConvNet", "channels": 4, "kinks": True}),
    "conv net of 8 and 16 channels, 8x8": ("digits", 10, {"_target_": f"{OWN}.ConvNet", "channels": 8, "kinks": True}),
    "conv net of 8 and 16 channels, 28x28": ("mnist", 5, {"_target_": f"{OWN}.ConvNet", "channels": 8, "kinks": True}),
}

Config = Mapping[str, Any]


def draw(data: str, epochs: int, model: Mapping[str, Any]) -> list[Config]:
    """Return trials with different optimizers."""
    register_schemas()
    usual = [f"data={data}", "data.limit=1500", f"trainer.max_epochs={epochs}", "trainer=cpu", "threads=1"]
    configs = []
    with search_path([conf_dir()]), initialize_config_dir(config_dir=str(conf_dir()), **VERSION_BASE):
        for seed in range(max(SIZES)):
            own = [
                f"seed={seed}",
                f"optimizer={['sgd', 'adam', 'rmsprop'][seed % 3]}",
                f"optimizer.lr={0.001 + seed / 1e3}",
            ]
            configs.append({**resolved(compose("train", [*usual, *own])), "model": model})
    return configs


class Listening(Silent):
    """A channel that notes whether its trial shared a stack."""

    stacked = False

    def started(self, about: Mapping[str, Any]) -> None:
        self.stacked = "bundle" in about


def bundled(configs: list[Config]) -> int:
    """Train trials as a bundle; return how many of them shared a stack."""
    talks = [Listening() for _ in configs]
    with tempfile.TemporaryDirectory() as folder:
        entries = []
        for number, (config, talk) in enumerate(zip(configs, talks, strict=True)):
            own = Path(folder, str(number))
            own.mkdir()
            entries.append(Entry(number, config, talk, own))
        train_bundle(entries, lambda trial, came_to: None)
    return sum(talk.stacked for talk in talks)


def main(rounds: int) -> None:
    """Measure and print."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for name, case in CASES.items():
        configs = draw(*case)
        alone(configs[:1])
        bundled(configs[:2])  # warms up
        times: dict[int, list[float]] = {size: [] for size in (1, *SIZES)}
        stacked: dict[int, list[int]] = {size: [] for size in SIZES}
        for _ in range(rounds):
            for size, found in times.items():
                began = time.process_time()
                if size == 1:
                    alone(configs)
                else:
                    stacked[size].append(sum(bundled(configs[at : at + size]) for at in range(0, len(configs), size)))
                found.append(1000 * (time.process_time() - began) / len(configs))
        unbundled = statistics.median(times[1])
        print(f"{name}: alone {unbundled:.0f} ms a trial")
        for size in SIZES:
            median = statistics.median(times[size])
            share = statistics.mean(stacked[size]) / len(configs)
            print(
                f"  bundles of {size}: {median:.0f} ms, {unbundled / median:.2f} times the rate; {share:.0%} in stacks"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
