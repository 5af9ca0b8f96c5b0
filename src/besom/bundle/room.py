"""How much memory lanes take, and how much of it there is."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from besom.bundle.activations import ACTIVATIONS
from besom.models.network import MLP
from besom.system.hardware import free_memory

EVALUATED_ROWS = 1024
"""Rows that are evaluated at a time: more do not make it faster, and all lanes' activations lie in memory."""

_FLOAT, _LONG = 4, 8  # bytes: lanes train in single precision
# Values and gradients, both again while the stack is rebuilt, Adam's three (amsgrad), the best so far, the next best.
_COPIES = 9


def bytes_of(network: MLP, *, batch: int, train: int, val: int) -> int:
    """Return what a lane takes at most, for `train` rows in batches of `batch`, and `val` to validate on.

    That is what the stack, its passes, the optimizer and the metrics allocate for it: a bound, not a figure.
    """
    numbers = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    trained, evaluated = batch + train % batch, min(val, EVALUATED_ROWS) + val % EVALUATED_ROWS
    activation = ACTIVATIONS.get(network.activation)
    kept = (activation is not None and activation.keeps_input) + network.batch_norm
    hidden, out = sum(network.hidden_sizes), network.out_features
    passes = trained * (hidden * (2 + kept + 2 * bool(network.dropout)) + 4 * out)
    passes += evaluated * (hidden * (1 + kept) + out)
    outputs = 4 * val * out  # as they come, side by side, and within their loss
    predictions = 4 * _LONG * (train + val)
    return _FLOAT * (_COPIES * numbers + passes + outputs) + predictions


def free_bytes(device: torch.device) -> int:
    """Return what this process could take of a device's memory now, what torch holds in reserve included."""
    if device.type != "cuda":
        return free_memory()
    free: int = torch.cuda.mem_get_info(device)[0]
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free


def fitting(needs: Sequence[int], room: int) -> int:
    """Return how many lanes fit, whichever of them they are; 1 at least, since one would train anyway."""
    taken, count = 0, 0
    for need in sorted(needs, reverse=True):
        taken += need
        if taken > room:
            break
        count += 1
    return max(1, count)
