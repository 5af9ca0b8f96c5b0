from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from besom.errors import DeviceError
from besom.workers.devices import Device, find_cores, find_gpus, find_slots

GPUS = [Device(kind="gpu", index=str(index), name="A100") for index in range(3)]

NVIDIA_SMI = """\
#!/bin/sh
echo "0, GPU-aaaa, NVIDIA A100"
echo "1, GPU-bbbb, NVIDIA H100, 80GB"
"""


def indices(devices: Any, **options: Any) -> list[str]:
    return [slot.device.index for slot in find_slots(devices, gpus=GPUS, cores=4, **options)]


@pytest.mark.parametrize(
    ("devices", "expected"),
    [("auto", "012"), ("gpu", "012"), ("cuda", "012"), (1, "0"), (2, "01"), ([2, 0], "20"), (["1"], "1")],
)
def test_gpus_are_taken_all_or_by_number_or_by_index(devices: Any, expected: str):
    assert indices(devices) == list(expected)
    assert all(slot.device.kind == "gpu" for slot in find_slots(devices, gpus=GPUS, cores=4))


def test_trials_share_a_gpu_only_once_each_has_one():
    assert indices("auto", per_device=2) == list("012012")
    assert indices("auto", per_device=2, limit=4) == list("0120")


def test_without_a_gpu_there_is_a_slot_on_each_core():
    slots = find_slots("auto", gpus=[], cores=3)
    assert [(slot.index, slot.device.kind, slot.threads) for slot in slots] == [(i, "cpu", 1) for i in range(3)]
    assert len(find_slots("cpu", gpus=GPUS, cores=3)) == 3


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("nonsense", None), ("100000000 1000", None)],
)
def test_a_quota_of_the_container_counts_as_cores(tmp_path: Path, quota: str, cores: int | None):
    (tmp_path / "cpu.max").write_text(quota)
    assert find_cores(tmp_path / "cpu.max") == (cores or len(os.sched_getaffinity(0)))
    assert find_cores(tmp_path / "absent") == len(os.sched_getaffinity(0))


@given(cores=st.integers(1, 512), per_device=st.integers(1, 4), limit=st.none() | st.integers(1, 64))
def test_there_are_no_more_slots_on_the_cpu_than_can_be_busy_and_at_least_one(
    cores: int, per_device: int, limit: int | None
):
    slots = find_slots("cpu", per_device=per_device, limit=limit, cores=cores)
    assert 1 <= len(slots) <= min(cores * per_device, limit or 10**6)
    assert [slot.index for slot in slots] == list(range(len(slots)))


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        (4, r"4 GPU\(s\) asked for, found here: gpu:0 \(A100\), .*trainer=cpu"),
        (0, r"0 GPU\(s\) asked for"),
        ([1, 7], r"no GPU 7; found here: gpu:0 \(A100\)"),
        ([], "no GPU named"),
        ("tpu", "'tpu' is unknown; use auto, cpu, gpu"),
        (True, "'True' is unknown"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused_with_those_there_are(devices: Any, told: str):
    with pytest.raises(DeviceError, match=told):
        find_slots(devices, gpus=GPUS, cores=4)


def test_asking_for_a_gpu_where_there_is_none_is_refused():
    with pytest.raises(DeviceError, match="found here: none"):
        find_slots("gpu", gpus=[], cores=4)


def test_a_worker_sees_its_own_gpu_alone_and_a_cpu_worker_none():
    gpu, *_ = find_slots([2], gpus=GPUS, cores=4)
    cpu, *_ = find_slots("cpu", cores=4)
    assert gpu.environment["CUDA_VISIBLE_DEVICES"] == "2"
    assert cpu.environment["CUDA_VISIBLE_DEVICES"] == ""
    assert cpu.environment["OMP_NUM_THREADS"] == "1"


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that knows of two GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, ["gpu:0 (NVIDIA A100)", "gpu:1 (NVIDIA H100, 80GB)"]),
        ("1", ["gpu:1 (NVIDIA H100, 80GB)"]),
        ("1,0", ["gpu:1 (NVIDIA H100, 80GB)", "gpu:0 (NVIDIA A100)"]),
        ("GPU-bbbb", ["gpu:GPU-bbbb (NVIDIA H100, 80GB)"]),
        ("", []),
        ("-1", []),
    ],
)
def test_only_gpus_that_this_process_may_use_are_found(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, found: list[str]
):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert list(map(str, find_gpus())) == found


def test_without_a_driver_there_are_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == []
