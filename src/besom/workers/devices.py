"""Which devices this machine has, and how they are cut into slots that are leased to one worker each."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from besom.errors import DeviceError
from besom.hardware import processor_name

THREADS = 1
"""CPU threads of torch in a slot, unless a config says otherwise: small models gain nothing from more, lose a
hundredfold where the cores are shared, and with one thread a result does not depend on the number of cores."""

_WORKER_BYTES = 1 << 30
"""What a warm worker weighs, about; there are no more CPU slots than fit into the memory."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU by its index, or the CPU."""

    kind: str
    name: str
    index: str = "0"

    def __str__(self) -> str:
        return f"{self.kind}:{self.index} ({self.name})" if self.kind == "gpu" else f"cpu ({self.name})"


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A share of a device, leased to one worker."""

    index: int
    device: Device
    threads: int = THREADS

    @property
    def environment(self) -> Mapping[str, str]:
        """What has to be set before the worker imports torch."""
        return {
            "CUDA_VISIBLE_DEVICES": self.device.index if self.device.kind == "gpu" else "",
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
            # Threads that spin while they wait starve each other as soon as the cores are shared.
            "OMP_WAIT_POLICY": "passive",
            # Deterministic cuBLAS: Lightning's `deterministic: true` needs it before CUDA starts.
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        }


def find_gpus() -> list[Device]:
    """Return the GPUs that this process may use, by nvidia-smi; none where there is no driver.

    torch would know as well, but the parent must not spend seconds on importing it.
    """
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,uuid,name", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [tuple(cell.strip() for cell in line.split(",", 2)) for line in listing.splitlines() if line.strip()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [Device(kind="gpu", index=index, name=name) for index, _, name in rows]
    by_id = {key: name for index, uuid, name in rows for key in (index, uuid)}
    return [Device(kind="gpu", index=key, name=by_id[key]) for key in visible.split(",") if key in by_id]


def find_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many cores this process may use: those it is bound to, or fewer if its container has a quota."""
    bound = len(os.sched_getaffinity(0))
    try:
        used, period = quota.read_text(encoding="ascii").split()
        return max(1, min(bound, math.ceil(int(used) / int(period))))
    except (OSError, ValueError):  # no cgroup of version 2, or "max": no quota
        return bound


def find_slots(
    devices: str | int | Sequence[int] = "auto",
    *,
    per_device: int = 1,
    limit: int | None = None,
    gpus: Sequence[Device] | None = None,
    cores: int | None = None,
) -> list[Slot]:
    """Cut the devices into slots: `per_device` on each GPU; on the CPU, `per_device` on each core.

    `devices`: `auto` takes every GPU, or else the CPU; `cpu`; `gpu`; a number of GPUs; or a list of their indices.
    `limit` is the largest number of slots that could be busy. `gpus` and `cores` are found when not given.
    Raises DeviceError for a GPU that is not there.
    """
    gpus = find_gpus() if gpus is None and devices != "cpu" else list(gpus or [])
    cores = cores or find_cores()
    chosen = _choose(devices, gpus)
    if chosen:
        leases = [gpu for _ in range(per_device) for gpu in chosen][:limit]
    else:
        count = max(1, min(cores * per_device, _free_memory() // _WORKER_BYTES, limit or cores * per_device))
        leases = [Device(kind="cpu", name=processor_name())] * count
    return [Slot(index=index, device=device) for index, device in enumerate(leases)]


_REMEDY = "use trainer=cpu, and for a sweep hydra.sweeper.devices=auto"


def _choose(devices: str | int | Sequence[int], gpus: Sequence[Device]) -> list[Device]:
    names = ", ".join(str(gpu) for gpu in gpus) or "none"
    if devices in ("auto", "cpu"):
        return list(gpus) if devices == "auto" else []
    if devices in ("gpu", "cuda"):
        devices = len(gpus) or 1
    if isinstance(devices, (bool, str)):
        raise DeviceError(
            f"devices: '{devices}' is unknown; use auto, cpu, gpu, a number of GPUs or a list like [0, 2]"
        )
    if isinstance(devices, int):
        if not 1 <= devices <= len(gpus):
            raise DeviceError(f"devices: {devices} GPU(s) asked for, found here: {names}; {_REMEDY}")
        return list(gpus[:devices])
    known = {gpu.index: gpu for gpu in gpus}
    missing = [str(index) for index in devices if str(index) not in known]
    if missing or not devices:
        raise DeviceError(f"devices: no GPU {', '.join(missing) or 'named'}; found here: {names}; {_REMEDY}")
    return [known[str(index)] for index in devices]


def _free_memory() -> int:
    """Bytes that can be had without swapping, with what the page cache would give back."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
