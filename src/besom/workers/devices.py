"""The devices of this machine, and the slots that they are divided into; one worker leases a slot."""

from __future__ import annotations

import math
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from besom.errors import DeviceError
from besom.system.hardware import free_memory, processor_name

THREADS = 1
"""CPU threads of Besom's own models in a CPU slot, unless the config sets them: small models gain nothing from more,
become a hundred times slower where cores are shared, and with one thread a result does not depend on the number of
cores."""

_GPU_THREADS = 4
"""Largest number of CPU threads that feed a GPU, if there are enough cores; a result does not depend on them."""

_WORKER_BYTES = 1 << 30
"""Approximate memory of a warm worker, in bytes; there are no more CPU slots than fit into memory."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU by its index or by its UUID (also of a MIG part), or the CPU."""

    kind: str
    name: str
    index: str = "0"

    def __str__(self) -> str:
        return f"{self.kind}:{self.index} ({self.name})" if self.kind == "gpu" else f"cpu ({self.name})"


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A share of one or several devices, leased to one worker; `threads` is the number for each of its processes."""

    index: int
    devices: tuple[Device, ...]
    threads: int = THREADS

    @property
    def device(self) -> Device:
        """The first device; all devices of a slot are of one kind."""
        return self.devices[0]

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables to set before the worker imports torch."""
        gpus = [device.index for device in self.devices if device.kind == "gpu"]
        # The indices are nvidia-smi's, in bus order; CUDA's default order begins with the fastest GPU.
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if gpus and "CUDA_VISIBLE_DEVICES" not in os.environ else {}
        return {
            **order,
            "CUDA_VISIBLE_DEVICES": ",".join(gpus),
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
            # Spinning threads starve each other as soon as cores are shared.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
            # Deterministic cuBLAS: Lightning's `deterministic: true` needs it before CUDA starts.
            "CUBLAS_WORKSPACE_CONFIG": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
        }

    def shares(self, other: Slot) -> bool:
        """Return whether this slot and another have a device in common."""
        return bool(set(self.devices) & set(other.devices))

    def __str__(self) -> str:
        first = str(self.device)
        if len(self.devices) == 1:
            return first
        return f"{len(self.devices)} x {first}" if self.device.kind == "cpu" else " + ".join(map(str, self.devices))


_GPU_LINE = re.compile(r"GPU (?P<index>\d+): (?P<name>.*) \(UUID: (?P<uuid>GPU-[^)]+)\)")
_MIG_LINE = re.compile(r"\s+MIG (?P<profile>\S+) .*\(UUID: (?P<uuid>MIG-[^)]+)\)")


def find_gpus() -> list[Device]:
    """Return the GPUs that this process may use, from nvidia-smi; none without a driver.

    A GPU that is divided by MIG is replaced by its instances, with their UUIDs. CUDA_VISIBLE_DEVICES is interpreted as
    CUDA does: indices or UUIDs, which may be abbreviated, up to the first that does not exist.

    torch would know them as well, but the parent process must not spend seconds on importing it.
    """
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    gpus, parts = _read_listing(listing)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [device for uuid, gpu in gpus.items() for device in (parts[uuid] or [gpu])]
    found = (_named(key.strip(), gpus, parts) for key in visible.split(","))
    return [device for device in takewhile(lambda device: device is not None, found) if device is not None]


def _read_listing(listing: str) -> tuple[dict[str, Device], dict[str, list[Device]]]:
    """Parse the output of `nvidia-smi -L`: the GPUs by UUID, and the MIG instances of each."""
    gpus: dict[str, Device] = {}
    parts: dict[str, list[Device]] = {}
    for line in listing.splitlines():
        if gpu := _GPU_LINE.match(line):
            latest = gpu["uuid"]
            gpus[latest] = Device(kind="gpu", index=gpu["index"], name=gpu["name"])
            parts[latest] = []
        elif (part := _MIG_LINE.match(line)) and gpus:
            name = f"{gpus[latest].name} MIG {part['profile']}"
            parts[latest].append(Device(kind="gpu", index=part["uuid"], name=name))
    return gpus, parts


def _named(key: str, gpus: Mapping[str, Device], parts: Mapping[str, Sequence[Device]]) -> Device | None:
    """Return the device of a CUDA_VISIBLE_DEVICES entry: an index, or the beginning of a UUID."""
    known = {**{gpu.index: gpu for gpu in gpus.values()}, **gpus}
    known |= {part.index: part for devices in parts.values() for part in devices}
    if key in known:
        found: Device | None = known[key]
    elif key.startswith(("GPU-", "MIG-")) and len(key) > len("GPU-"):
        begun = [device for uuid, device in known.items() if uuid.startswith(key)]
        found = begun[0] if len(begun) == 1 else None
    else:
        found = None
    # The name stays as the user wrote it: the worker's CUDA reads the same variable.
    return None if found is None else Device(kind="gpu", index=key, name=found.name)


def find_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many cores this process may use: its CPU affinity, or fewer if its container has a quota."""
    bound = len(os.sched_getaffinity(0))
    try:
        used, period = quota.read_text(encoding="ascii").split()
        return max(1, min(bound, math.ceil(int(used) / int(period))))
    except (OSError, ValueError):  # no cgroup of version 2, or "max": no quota
        return bound


def threads_of_user() -> int | None:
    """Return the number of threads that the user has set in the environment; None if there is none."""
    found = (os.environ.get(name, "").partition(",")[0] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    return next((int(number) for number in found if number.isdecimal() and int(number) > 0), None)


def find_slots(
    devices: str | int | Sequence[int | str] = "auto",
    *,
    per_device: int = 1,
    per_trial: int = 1,
    limit: int | None = None,
    threads: int | None = None,
    share_cores: bool = False,
    gpus: Sequence[Device] | None = None,
    cores: int | None = None,
    notice: Callable[[str], None] | None = None,
) -> list[Slot]:
    """Divide the devices into slots of `per_trial` devices each; on the CPU, a device is one core.

    `devices`: `auto` takes every GPU, or else the CPU; `cpu`; `gpu`; a number of GPUs; or a list of their indices.
    Each device belongs to `per_device` slots; no device gets a second slot before each has one. `limit` is the largest
    number of slots that can be busy. `gpus` and `cores` are detected unless given. `notice` receives a line about GPUs
    that stay idle because `per_trial` does not divide their number.

    `threads` is the number for each process of a trial; there are no more CPU slots than cores for them. Unless it is
    given, a CPU slot has one thread, and GPU slots share the cores, with at most four threads for each of their
    processes; with `share_cores`, slots of either kind share all cores.
    Raises DeviceError for a GPU that does not exist, and for more GPUs per trial than there are.
    """
    if per_trial < 1:
        raise DeviceError(f"trainer.devices: {per_trial} is below 1; a trial trains on one device at least")
    gpus = find_gpus() if gpus is None and devices != "cpu" else list(gpus or [])
    cores = cores or find_cores()
    chosen = _choose(devices, gpus)
    if not chosen:
        leases = [(Device(kind="cpu", name=processor_name()),) * per_trial]
        room = cores // (per_trial * (threads or 1)) * per_device
        leases *= max(1, min(room, free_memory() // (_WORKER_BYTES * per_trial)))
        most = THREADS
    else:
        leases = list(_groups(chosen, per_trial, notice)) * per_device
        most = _GPU_THREADS
    leases = leases[:limit]
    share = max(1, cores // (len(leases) * per_trial))
    each = threads or (share if share_cores else min(most, share))
    return [Slot(index=index, devices=lease, threads=each) for index, lease in enumerate(leases)]


def _groups(
    gpus: Sequence[Device], per_trial: int, notice: Callable[[str], None] | None
) -> Iterator[tuple[Device, ...]]:
    names = ", ".join(str(gpu) for gpu in gpus)
    if per_trial > 1 and any(gpu.index.startswith("MIG-") for gpu in gpus):
        raise DeviceError(
            f"devices_per_trial: {per_trial} parts of a GPU that is cut by MIG cannot train together; "
            "set hydra.sweeper.devices_per_trial=1 and trainer.devices=1"
        )
    if per_trial > len(gpus):
        raise DeviceError(
            f"devices_per_trial: {per_trial} GPUs for each trial, but there are only {len(gpus)}: {names}; "
            f"set it to {len(gpus)} or less, or for one run trainer.devices"
        )
    used = len(gpus) - len(gpus) % per_trial
    if idle := gpus[used:]:
        line = f"{len(gpus)} GPUs do not divide by {per_trial} for each trial; idle: {', '.join(map(str, idle))}"
        (notice or _ignore)(f"devices_per_trial: {line}")
    for start in range(0, used, per_trial):
        yield tuple(gpus[start : start + per_trial])


def _ignore(_: str) -> None:
    pass


_REMEDY = "use trainer=cpu, and for a sweep hydra.sweeper.devices=auto"


def _choose(devices: str | int | Sequence[int | str], gpus: Sequence[Device]) -> list[Device]:
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
    if not any(index.isdecimal() for index in known):  # CUDA_VISIBLE_DEVICES lists UUIDs: a number is a position in it
        known |= {str(place): gpu for place, gpu in enumerate(gpus)}
    missing = [str(index) for index in devices if str(index) not in known]
    if missing or not devices:
        raise DeviceError(f"devices: no GPU {', '.join(missing) or 'named'}; found here: {names}; {_REMEDY}")
    if len({str(index) for index in devices}) < len(devices):
        raise DeviceError(
            f"devices: {list(devices)} names a GPU twice; hydra.sweeper.trials_per_device=2 puts two trials on each"
        )
    return [known[str(index)] for index in devices]
