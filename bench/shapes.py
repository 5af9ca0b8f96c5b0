"""Measure the speed-up of bundles by their size, the width of the layers and the batch size.

    PYTHONPATH=. python bench/shapes.py [ROUNDS]

Prints the rate of training relative to unbundled training, the median of the rounds, and the size that `bundle=auto`
chooses, up to 64 members. Measured as by `auto`: an epoch by its steps, on copies, one thread, in the thread's own
time, so that other processes do not count. Needs MNIST under BESOM_DATA_DIR (or data/), which is downloaded if it is
missing.
"""

from __future__ import annotations

import statistics
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from bench.stack import Silent
from besom.bundle.member import Member
from besom.bundle.size import MeasuredSize, Sizing
from besom.bundle.timing import Timing
from besom.config.checks import resolved
from besom.config.hydra_versions import VERSION_BASE
from besom.config.paths import conf_dir, search_path
from besom.config.schema import register_schemas
from besom.data import InMemoryDataModule
from besom.training.fit import build_data

CPU = torch.device("cpu")
COUNTS = (2, 4, 8, 16, 32, 64, 128, 256)
SIZES = (16, 32, 64, 128, 256, 512, 1024)
FIRST, MOST = 8, 64  # the first and the largest size of `auto`

DIGITS = ("data=digits", "model=mlp_classifier", "model.width=64", "model.depth=1", "optimizer=adam")
MNIST = ("experiment=mnist_ann",)


class Shape:
    """Members of one shape that differ in their seeds, and their data."""

    def __init__(self, overrides: Sequence[str], count: int) -> None:
        with search_path([conf_dir()]), initialize_config_dir(config_dir=str(conf_dir()), **VERSION_BASE):
            self.config: Mapping[str, Any] = resolved(compose("train", ["trainer=cpu", "threads=1", *overrides]))
        data = build_data(self.config)
        assert isinstance(data, InMemoryDataModule)
        self.data = data
        self.members = [Member(seed, self._seeded(seed), data, Silent(), Path()) for seed in range(count)]

    def _seeded(self, seed: int) -> Mapping[str, Any]:
        return {**self.config, "model": {**self.config["model"], "seed": seed}}

    def rate(self, count: int, rounds: int) -> float:
        """Return the speed-up of a bundle of `count` members: the median of ratios, each measured in turn."""
        timing = Timing(self.members, self.data, CPU, epochs=self.config["trainer"]["max_epochs"])
        pairs = [timing.epochs_s([slice(0, 1), slice(0, count)]) for _ in range(rounds)]
        return statistics.median(count * alone / together for alone, together in pairs)

    def choice(self, rounds: int) -> int:
        """Return the size that `auto` chooses: the median of as many tries as rounds."""
        return statistics.median_low(self._chosen() for _ in range(rounds))

    def _chosen(self) -> int:
        found: dict[str, MeasuredSize] = {}
        sizing = Sizing(bundle_key="", auto=True, slots=1, on_sized=lambda *_: None, measured=found)
        members = FIRST
        while (size := sizing.size(self.members[:members], self.data, self.config)) == members < MOST:
            members *= 2
        return size


def main(rounds: int) -> None:
    """Measure and print."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    register_schemas()
    for name, overrides in (("digits, 64-64-10, Adam", DIGITS), ("mnist_ann", MNIST)):
        shape = Shape(overrides, max(COUNTS))
        print(f"{name}, by members (auto: {shape.choice(rounds)})", flush=True)
        for count in COUNTS:
            print(f"  {count:>4} members {shape.rate(count, rounds):6.2f}", flush=True)
    for key in ("model.hidden_sizes", "data.batch_size"):
        print(f"mnist_ann with another {key}, 2 and 8 members", flush=True)
        for size in SIZES:
            value = f"[{size},{size}]" if key == "model.hidden_sizes" else str(size)
            shape = Shape((*MNIST, f"{key}={value}"), MOST)
            two, eight = (shape.rate(count, rounds) for count in (2, 8))
            print(f"  {value:>11}   2: {two:6.2f}   8: {eight:6.2f}   auto: {shape.choice(rounds)}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
