"""How many of a bundle's lanes train as one: as many as fit into memory and, where that is left to us, as pay."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar, cast

import torch

from besom.bundle.member import Member, device_of
from besom.bundle.room import bytes_of, fitting, free_bytes
from besom.bundle.timing import Timing
from besom.data import InMemoryDataModule
from besom.models.network import MLP

T = TypeVar("T")
Costs = Callable[[Sequence[slice]], Sequence[float]]
"""What each of these parts of the lanes costs, trained as one."""

_GAIN = 0.05
"""What twice the lanes must save at least: the more trials a sampler chooses at once, the later it learns."""


@dataclass(frozen=True)
class Found:
    """What was measured: the size that pays, among so many lanes."""

    size: int
    members: int


@cache
def found_here() -> dict[str, Found]:
    """Return what this process has found out, by the company of trials."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """Decides how many lanes of a company train as one, in one of so many `slots` that share the device's memory.

    With `auto` that is as many as pay, which is measured for the first lanes of the company, and again for more lanes
    as long as all of them did. What was `found` before is kept there. `tell` hears of it whenever it was measured, and
    when memory is short: the first lane's trial, the size, and of how many lanes.
    """

    bundle_key: str
    auto: bool
    slots: int
    tell: Callable[[int, int, int], None]
    found: MutableMapping[str, Found]
    free: Callable[[torch.device], int] = free_bytes

    def size(self, members: Sequence[Member], data: InMemoryDataModule, config: Mapping[str, Any]) -> int:
        """Return how many of the lanes train as one."""
        device = device_of(config)
        room = self.free(device) // self.slots
        fit = size = fitting(_needs(members, data), room)
        known = self.found.get(self.bundle_key, Found(1, 1))
        measures = self.auto and known.size == known.members < fit
        if measures:
            timing = Timing(members, data, device, epochs=config["trainer"]["max_epochs"] or 0)
            known = Found(grown(fit, timing.epochs_s, begin=known.size, goes_on=timing.in_time), fit)
            self.found[self.bundle_key] = known
        if self.auto:
            size = min(fit, known.size)
        if measures or fit < len(members):
            self.tell(members[0].trial, size, len(members))
        return size


def grown(members: int, costs: Costs, *, begin: int = 1, goes_on: Callable[[], bool] = lambda: True) -> int:
    """Return the size at which twice the lanes save no clear part of the cost any more, or `lanes` if they always do.

    Twice the lanes are compared with the same lanes in two halves. Where it no longer `goes_on`, what has paid so far
    is the answer.
    """
    size = begin
    while size < members and goes_on():
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
