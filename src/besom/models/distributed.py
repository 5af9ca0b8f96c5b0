"""The collectives of the processes that train one trial together, its ranks.

Except for `rank_count`, every function is a collective: all ranks must call it, in the same order, or the others wait.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

_TORCH = tuple(map(int, torch.__version__.split(".")[:2]))


def rank_count() -> int:
    """Return the number of processes that train together, this one included: 1 unless started as one of several."""
    return int(os.environ.get("BESOM_RANKS", "1"))


def join_process_group(kind: str) -> None:
    """Initialize the process group, once for all trials; with `kind` cpu on gloo, else rank i has the i-th visible GPU.

    The environment variables are those of torchrun. Unlike torch's own `env://`, this opens no port to other machines.
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
        # Before torch 2.7, only the older of its two backends takes a socket that listens already.
        older: dict[str, Any] = {"use_libuv": False} if _TORCH < (2, 7) else {}
        store = dist.TCPStore(address, port, count, is_master=True, master_listen_fd=listener.detach(), **older)  # type: ignore[attr-defined]
    else:
        store = dist.TCPStore(address, port, count, is_master=False)  # type: ignore[attr-defined]
    device = torch.device("cuda", rank) if kind != "cpu" else None
    if device is not None:
        torch.cuda.set_device(device)
    backend = "gloo" if device is None else "nccl"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, device_id=device)


@lru_cache
def _object_group() -> dist.ProcessGroup:
    # Objects are sent over the CPU: they must not wait for pending work of a GPU.
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)
    return group


def agreed(value: T) -> T:
    """Return rank 0's value on every rank."""
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_object_group())
    return values[0]


def mean_over_ranks(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the mean of each metric over the ranks that have it; the same on every rank."""
    per_rank: list[Mapping[str, float]] = [{}] * dist.get_world_size()
    dist.all_gather_object(per_rank, dict(metrics), group=_object_group())
    names = dict.fromkeys(name for metrics in per_rank for name in metrics)
    values = {name: [metrics[name] for metrics in per_rank if name in metrics] for name in names}
    # Equal values keep their last bit.
    return {name: each[0] if len(set(each)) == 1 else sum(each) / len(each) for name, each in values.items()}


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum of a tensor over the ranks."""
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def rows_of_all_ranks(rows: Tensor) -> Tensor:
    """Return the rows [n_i, ...] of all ranks as [n_0 + n_1 + …, ...], rank 0's first."""
    sizes = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(rows)], device=rows.device))
    counts = [int(size) for size in sizes]
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
