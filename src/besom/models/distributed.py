"""What the processes that train one trial together, its ranks, have to say to each other.

But for `rank_count`, every function is a collective: all ranks call it, in the same order, or those that do wait.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def rank_count() -> int:
    """How many processes train together with this one, itself included: 1 unless it was started as one of several."""
    return int(os.environ.get("BESOM_RANKS", "1"))


def meet(kind: str) -> None:
    """Meet the other ranks, once for all trials; `kind` is cpu, or else rank i has the i-th visible GPU.

    The environment says where, by the names that torchrun uses. Unlike with torch's own `env://`, nothing is open
    to other machines.
    """
    if dist.is_initialized():
        return
    rank, count = int(os.environ["LOCAL_RANK"]), rank_count()
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if rank == 0:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        store = dist.TCPStore(address, port, count, is_master=True, master_listen_fd=listener.detach())  # type: ignore[attr-defined]
    else:
        store = dist.TCPStore(address, port, count, is_master=False)  # type: ignore[attr-defined]
    device = torch.device("cuda", rank) if kind != "cpu" else None
    if device is not None:
        torch.cuda.set_device(device)
    backend = "gloo" if device is None else "nccl"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, device_id=device)


@lru_cache
def _words() -> dist.ProcessGroup:
    # Words go over the CPU: they must not wait for what a GPU still has to do.
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)
    return group


def agreed(value: T) -> T:
    """Return rank 0's value on every rank."""
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_words())
    return values[0]


def mean_over_ranks(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the mean of each metric over the ranks that have it; the same on every rank."""
    found: list[Mapping[str, float]] = [{}] * dist.get_world_size()
    dist.all_gather_object(found, dict(metrics), group=_words())
    names = dict.fromkeys(name for one in found for name in one)
    values = {name: [one[name] for one in found if name in one] for name in names}
    # Equal values stay what they are, to the last bit.
    return {name: of[0] if len(set(of)) == 1 else sum(of) / len(of) for name, of in values.items()}


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum of a tensor over the ranks."""
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def rows_of_all_ranks(rows: Tensor) -> Tensor:
    """Return [n_0 + n_1 + …, ...]: the rows [n_i, ...] of all ranks, rank 0's first."""
    sizes = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(rows)], device=rows.device))
    counts = [int(size) for size in sizes]
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
