"""The size of a stack: how many trials of a bundle train together.

As many as fit in memory and, with `bundle=auto`, as still speed things up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar, cast

import torch

from besom.bundle.activations import ACTIVATIONS
from besom.bundle.member import Member, device_of
from besom.bundle.timing import Timing
from besom.data import InMemoryDataModule
from besom.models.network import MLP
from besom.system.hardware import free_memory

T = TypeVar("T")
Costs = Callable[[Sequence[slice]], Sequence[float]]
"""Returns the cost of each of these parts of the members, each trained as one stack."""

_GAIN = 0.05
"""Smallest saving that doubles the size: the more trials a sampler draws at once, the less it learns in between."""

EVALUATED_ROWS = 1024
"""Rows that are evaluated at a time: more are not faster, and all members' activations are in memory."""

_FLOAT, _LONG = 4, 8  # bytes: members train in single precision
# Values and gradients, both again while the stack is rebuilt, Adam's three (amsgrad), the best so far, the next best.
_COPIES = 9


def bytes_of(network: MLP, *, batch: int, train: int, val: int) -> int:
    """Return an upper bound of a member's memory in bytes, for `train` rows in batches of `batch`, and `val` rows.

    It covers what the stack, its passes, the optimizer and the metrics allocate for the member.
    """
    numbers = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    trained, evaluated = batch + train % batch, min(val, EVALUATED_ROWS) + val % EVALUATED_ROWS
    activation = ACTIVATIONS.get(network.activation)
    kept = (activation is not None and activation.keeps_input) + network.batch_norm
    hidden, out = sum(network.hidden_sizes), network.out_features
    passes = trained * (hidden * (2 + kept + 2 * bool(network.dropout)) + 4 * out)
    passes += evaluated * (hidden * (1 + kept) + out)
    outputs = 4 * val * out  # as computed, concatenated, and within their loss
    predictions = 4 * _LONG * (train + val)
    return _FLOAT * (_COPIES * numbers + passes + outputs) + predictions


def _free_bytes(device: torch.device) -> int:
    """Return the bytes of a device's memory that this process can use, including what torch holds in reserve."""
    if device.type != "cuda":
        return free_memory()
    free: int = torch.cuda.mem_get_info(device)[0]
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free


def count_fitting(needs: Sequence[int], room: int) -> int:
    """Return how many members fit, whichever these are; at least 1, since one would train anyway."""
    taken, count = 0, 0
    for need in sorted(needs, reverse=True):
        taken += need
        if taken > room:
            break
        count += 1
    return max(1, count)


@dataclass(frozen=True)
class MeasuredSize:
    """The size that pays, measured among this number of members."""

    size: int
    members: int


@cache
def measured_sizes() -> dict[str, MeasuredSize]:
    """Return the sizes that this process has measured, by bundle key."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """Decides how many members of a bundle train as one stack, in one of `slots` that share the device's memory.

    With `auto`, the size is the largest that pays: it is measured for the first bundle of a bundle key, and again for
    larger bundles as long as all members paid. `measured` keeps the sizes. `on_sized` receives the first member's
    trial, the size and the number of members, after each measurement and when memory is short.
    """

    bundle_key: str
    auto: bool
    slots: int
    on_sized: Callable[[int, int, int], None]
    measured: MutableMapping[str, MeasuredSize]
    free: Callable[[torch.device], int] = _free_bytes

    def size(self, members: Sequence[Member], data: InMemoryDataModule, config: Mapping[str, Any]) -> int:
        """Return how many of the members train as one stack."""
        device = device_of(config)
        room = self.free(device) // self.slots
        fit = size = count_fitting(_needs(members, data), room)
        known = self.measured.get(self.bundle_key, MeasuredSize(1, 1))
        measures = self.auto and known.size == known.members < fit
        if measures:
            timing = Timing(members, data, device, epochs=config["trainer"]["max_epochs"] or 0)
            known = MeasuredSize(best_size(fit, timing.epochs_s, start=known.size, has_time=timing.in_time), fit)
            self.measured[self.bundle_key] = known
        if self.auto:
            size = min(fit, known.size)
        if measures or fit < len(members):
            self.on_sized(members[0].trial, size, len(members))
        return size


def best_size(members: int, costs: Costs, *, start: int = 1, has_time: Callable[[], bool] = lambda: True) -> int:
    """Return the size from which doubling saves no clear part of the cost, or `members` if it always does.

    The doubled stack is compared with the same members in two halves. When `has_time` returns False, the size that has
    paid so far is the result.
    """
    size = start
    while size < members and has_time():
        more = min(2 * size, members)
        half, other, whole = costs([slice(0, size), slice(size, more), slice(0, more)])
        if whole > (1 - _GAIN) * (half + other):
            break
        size = more
    return size


def cut(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut a sequence into parts of at most `size`, as few as that takes and as even as they can be."""
    count = math.ceil(len(items) / size)
    bounds = [len(items) * part // count for part in range(count + 1)]
    return [items[start:stop] for start, stop in pairwise(bounds)]


def _needs(members: Sequence[Member], data: InMemoryDataModule) -> list[int]:
    train, val = data.sizes["train"], data.sizes["val"]
    batch = min(data.batch_size or train, train)
    return [bytes_of(cast(MLP, member.network), batch=batch, train=train, val=val) for member in members]
