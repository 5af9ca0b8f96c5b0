"""Measure the training time of bundles without the rest of a sweep: trials of digits, one thread, nothing recorded.

    PYTHONPATH=. python bench/stack.py [ROUNDS]

Prints the milliseconds of a trial of 20 epochs, the medians of the rounds: in a hand-written loop over tensors in
memory, which measures the validation accuracy each epoch, in Besom unbundled, and in bundles of 2 to 32.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import nn

from besom.bundle.train import Entry, train_bundle
from besom.config.checks import resolved
from besom.config.hydra_versions import VERSION_BASE
from besom.config.paths import conf_dir, search_path
from besom.config.schema import register_schemas
from besom.training.fit import build_data, build_model, train
from besom.training.progress import Moment

TRIALS = 32
SIZES = (2, 4, 8, 16, 32)

Config = Mapping[str, Any]


class Silent:
    """A channel without a receiver."""

    def started(self, about: Mapping[str, Any]) -> None: ...

    def report(self, moment: Moment, metrics: Mapping[str, float]) -> None: ...

    def should_stop(self, *, in_epoch: bool) -> bool:
        return False


def draw(count: int) -> list[Config]:
    """Return random trials of sweeps/digits.yaml."""
    chance = random.Random(0)
    register_schemas()
    configs = []
    with search_path([conf_dir()]), initialize_config_dir(config_dir=str(conf_dir()), **VERSION_BASE):
        for _ in range(count):
            rate = 10 ** chance.uniform(-3, -1)
            chosen = [f"optimizer={chance.choice(['sgd', 'adam', 'rmsprop'])}", f"optimizer.lr={rate}"]
            if chance.random() < 0.5:
                chosen.append("model=logistic_regression")
            else:
                activation, width = chance.choice(["relu", "tanh", "gelu"]), chance.choice([32, 64, 128, 256])
                chosen += [
                    f"model.depth={chance.randint(1, 3)}",
                    f"model.width={width}",
                    f"model.activation={activation}",
                ]
            configs.append(resolved(compose("train", ["trainer=cpu", "threads=1", "trainer.max_epochs=20", *chosen])))
    return configs


def by_hand(configs: list[Config]) -> None:
    data = build_data(configs[0])
    parts = (
        [batch for chunk in loader for batch in chunk] for loader in (data.train_dataloader(), data.val_dataloader())
    )
    (x, y), (val_x, val_y) = ([torch.cat(tensors) for tensors in zip(*part, strict=True)] for part in parts)
    for config in configs:
        module = build_model(config, data)
        network, optimizer = module.network, module.configure_optimizers()
        for _ in range(config["trainer"]["max_epochs"]):
            for rows in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
                optimizer.step()
            with torch.inference_mode():
                (network(val_x).argmax(1) == val_y).float().mean().item()


def alone(configs: list[Config]) -> None:
    for config in configs:
        with tempfile.TemporaryDirectory() as folder:
            train(config, channel=Silent(), directory=Path(folder))


def bundled(size: int) -> Callable[[list[Config]], None]:
    def run(configs: list[Config]) -> None:
        for start in range(0, len(configs), size):
            with tempfile.TemporaryDirectory() as folder:
                entries = []
                for number, config in enumerate(configs[start : start + size]):
                    own = Path(folder, str(number))
                    own.mkdir()
                    entries.append(Entry(number, config, Silent(), own))
                train_bundle(entries, lambda trial, came_to: None)

    return run


def main(rounds: int) -> None:
    """Measure and print."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    configs = draw(TRIALS)
    sides: dict[str, Callable[[list[Config]], None]] = {"by hand": by_hand, "alone": alone}
    sides |= {f"bundles of {size}": bundled(size) for size in SIZES}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for run in sides.values():
        run(configs[:2])  # warms up
    for _ in range(rounds):
        for name, run in sides.items():
            began = time.perf_counter()
            run(configs)
            times[name].append(1000 * (time.perf_counter() - began) / len(configs))
    hand = statistics.median(times["by hand"])
    for name, found in times.items():
        median = statistics.median(found)
        print(f"{name}: {median:.0f} ms a trial, {hand / median:.2f} times the rate of the loop by hand")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
