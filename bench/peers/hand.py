"""The reference: a hand-written PyTorch loop over tensors in memory, without tracking, with random parameters.

    PYTHONPATH=. python bench/peers/hand.py --data digits --trials 4 --epochs 5 --folder EMPTY [--threads N]

One process. Without --threads it tries one and two threads for some steps of the first trials, before the clock starts,
and uses the faster. If other processes use the cores, OMP_WAIT_POLICY=passive keeps two threads from spinning.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from bench.peers import images
from bench.peers.networks import build_network, build_optimizer, build_scheduler
from bench.peers.side import Clock, Settings, run
from bench.peers.space import draw

TRIED, STEPS = 3, 50

Rows = tuple[Tensor, Tensor]


def train(parameters: Mapping[str, Any], train_rows: Rows, val_rows: Rows, *, size: int, epochs: int) -> float:
    """Train one network; return the best validation accuracy of its epochs."""
    (x, y), (val_x, val_y) = train_rows, val_rows
    network = build_network(parameters, x.shape[1])
    optimizer = build_optimizer(parameters, network)
    scheduler = build_scheduler(parameters, optimizer, epochs)
    best = 0.0
    for _ in range(epochs):
        network.train()
        for rows in torch.randperm(len(x)).split(size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
        if scheduler is not None:
            scheduler.step()
        network.eval()
        with torch.inference_mode():
            best = max(best, (network(val_x).argmax(1) == val_y).float().mean().item())
    return best


def rows(part: Subset) -> Rows:
    """Return the rows of a part of a TensorDataset."""
    x, y = part.dataset[part.indices]
    return x, y


def sweep(settings: Settings, clock: Clock) -> float:
    trials = draw(settings.data, settings.trials, settings.seed)
    size = images.batch_size(settings.data)
    train_rows, val_rows = (rows(part) for part in images.in_memory(settings.data))
    x, y = train_rows
    few = x[: STEPS * size], y[: STEPS * size]

    def tried_s(threads: int) -> float:
        torch.set_num_threads(threads)
        began = time.perf_counter()
        for parameters in trials[:TRIED]:
            train(parameters, few, few, size=size, epochs=1)
        return time.perf_counter() - began

    tried_s(1)  # warms up
    torch.set_num_threads(settings.threads or min((1, 2), key=tried_s))
    torch.manual_seed(settings.seed)
    with clock.running():
        return max(train(drawn, train_rows, val_rows, size=size, epochs=settings.epochs) for drawn in trials)


if __name__ == "__main__":
    run(sweep, __doc__)
