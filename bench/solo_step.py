"""Measure a training step of the `mnist_ann` model (784-128-64-10, batch 64, SGD with momentum) in three ways.

    python bench/solo_step.py [ROUNDS]

    hand     a hand-written PyTorch loop over the same in-memory tensors: no framework, no metrics
    besom    Besom's data module and model in Lightning's fit, train accuracy and F1 included
    loader   the same model under Lightning's own optimization, fed by torchvision's MNIST through a DataLoader
             that transforms each sample, as the tutorials show it

Each is timed for an epoch of the 54,000 training images, in turn, ROUNDS times; compare the ratios of the medians,
because the machine's speed drifts. Needs MNIST under BESOM_DATA_DIR (or data/), which is downloaded if it is missing.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from besom.data import InMemoryDataModule
from besom.data.sources import mnist
from besom.models import MLPClassifier

BATCH, LR, MOMENTUM = 64, 0.01, 0.9
SGD = partial(torch.optim.SGD, lr=LR, momentum=MOMENTUM)


def build_model(data: InMemoryDataModule) -> MLPClassifier:
    return MLPClassifier(spec=data.spec, optimizer=SGD, hidden_sizes=[128, 64])


def build_trainer() -> pl.Trainer:
    return pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )


def hand(data: InMemoryDataModule, x: Tensor, y: Tensor) -> None:
    network = build_model(data).network
    optimizer = SGD(network.parameters())
    for rows in torch.randperm(len(x)).split(BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
        optimizer.step()


def besom(data: InMemoryDataModule) -> None:
    build_trainer().fit(build_model(data), datamodule=data)


class Tutorial(pl.LightningModule):
    """The model as in a tutorial."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.network(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return SGD(self.parameters())


def loader(data: InMemoryDataModule, root: str, rows: int) -> None:
    from torchvision import datasets, transforms

    steps = [transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,)), transforms.Lambda(torch.flatten)]
    images = datasets.MNIST(root, train=True, transform=transforms.Compose(steps))
    batches = DataLoader(Subset(images, range(rows)), batch_size=BATCH, shuffle=True)
    build_trainer().fit(Tutorial(build_model(data).network), batches)


def seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main(rounds: int) -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    root = os.environ.get("BESOM_DATA_DIR", "data")
    data = InMemoryDataModule(mnist(root), batch_size=BATCH, scaling={"mean": 0.5, "std": 0.5}, val_fraction=0.1)
    data.setup("fit")
    batches = [batch for chunk in data.train_dataloader() for batch in chunk]
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    sides: dict[str, Callable[[], None]] = {
        "hand": lambda: hand(data, x, y),
        "besom": lambda: besom(data),
        "loader": lambda: loader(data, root, len(x)),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, run in sides.items():
            took = seconds(run)
            if turn:  # the first round warms up
                times[name].append(took)
    medians = {name: statistics.median(values) for name, values in times.items()}
    steps = -(-len(x) // BATCH)
    for name, median in medians.items():
        print(f"{name:8}{median:7.2f} s an epoch   {1e6 * median / steps:6.0f} µs a step")
    print(f"besom / hand   {medians['besom'] / medians['hand']:.2f}   (at most 1.5)")
    print(f"loader / besom {medians['loader'] / medians['besom']:.1f}    (at least 4)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
