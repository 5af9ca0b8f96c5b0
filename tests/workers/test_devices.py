from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from besom.errors import DeviceError
from besom.workers.devices import Device, find_cores, find_gpus, find_slots, threads_of_user

GPUS = [Device(kind="gpu", index=str(index), name="A100") for index in range(3)]

NVIDIA_SMI = """\
#!/bin/sh
[ "$1" = -L ] || exit 6
echo "GPU 0: NVIDIA A100 (UUID: GPU-aaaa-1111)"
echo "GPU 1: NVIDIA H100, 80GB (UUID: GPU-bbbb-2222)"
"""

# GPU 1 is cut into two parts.
NVIDIA_SMI_MIG = """\
#!/bin/sh
echo "GPU 0: NVIDIA A100 (UUID: GPU-aaaa-1111)"
echo "GPU 1: NVIDIA A100 (UUID: GPU-bbbb-2222)"
echo "  MIG 3g.20gb     Device  0: (UUID: MIG-cccc-3333)"
echo "  MIG 1g.5gb      Device  1: (UUID: MIG-cccc-4444)"
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
    ("options", "threads"),
    [
        ({"threads": 2}, [2, 2, 2, 2]),
        ({"threads": 3, "limit": 1}, [3]),
        ({"threads": 99}, [99]),
        ({"share_cores": True}, [1] * 8),
        ({"share_cores": True, "limit": 1}, [8]),
        ({"share_cores": True, "limit": 3}, [2, 2, 2]),
        ({"share_cores": True, "per_trial": 2, "limit": 1}, [4]),
        ({"share_cores": True, "threads": 4, "limit": 3}, [4, 4]),
        ({"devices": "gpu", "gpus": GPUS[:1], "share_cores": True}, [8]),
        ({"devices": "gpu", "gpus": GPUS[:1], "threads": 6}, [6]),
    ],
)
def test_threads_of_a_trial_are_those_asked_for_or_its_share_of_all_cores(options: dict[str, Any], threads: list[int]):
    slots = find_slots(**{"devices": "cpu", "cores": 8, **options})
    assert [slot.threads for slot in slots] == threads


def test_what_the_user_set_for_openmp_and_cublas_is_kept(monkeypatch: pytest.MonkeyPatch):
    (slot,) = find_slots("cpu", cores=1)
    for name, value in {"OMP_WAIT_POLICY": "active", "CUBLAS_WORKSPACE_CONFIG": ":16:8"}.items():
        monkeypatch.delenv(name, raising=False)
        assert slot.environment[name] != value
        monkeypatch.setenv(name, value)
        assert slot.environment[name] == value


@pytest.mark.parametrize(
    ("variables", "threads"),
    [({}, None), ({"OMP_NUM_THREADS": "3"}, 3), ({"OMP_NUM_THREADS": "4,2", "MKL_NUM_THREADS": "8"}, 4),
     ({"MKL_NUM_THREADS": "2"}, 2), ({"OMP_NUM_THREADS": "many"}, None)],
)  # fmt: skip
def test_threads_that_the_user_has_set_in_the_environment_are_known(
    variables: dict[str, str], threads: int | None, monkeypatch: pytest.MonkeyPatch
):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert threads_of_user() == threads


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
        ([0, 0], r"\[0, 0\] names a GPU twice; .*trials_per_device"),
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
    with pytest.raises(DeviceError, match=r"4 GPU\(s\) asked for, found here: none; use trainer=cpu"):
        find_slots(4, gpus=[], cores=4)


def test_a_worker_sees_its_own_gpus_alone_and_a_cpu_worker_none():
    gpu, *_ = find_slots([2], gpus=GPUS, cores=4)
    pair, *_ = find_slots([2, 0], gpus=GPUS, cores=4, per_trial=2)
    cpu, *_ = find_slots("cpu", cores=4)
    assert gpu.environment["CUDA_VISIBLE_DEVICES"] == "2"
    assert pair.environment["CUDA_VISIBLE_DEVICES"] == "2,0"
    assert cpu.environment["CUDA_VISIBLE_DEVICES"] == ""
    assert cpu.environment["OMP_NUM_THREADS"] == "1"


def test_indices_mean_to_cuda_what_they_mean_to_nvidia_smi_unless_the_user_chose(monkeypatch: pytest.MonkeyPatch):
    gpu, *_ = find_slots("gpu", gpus=GPUS, cores=4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu.environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert "CUDA_DEVICE_ORDER" not in gpu.environment


def test_several_gpus_for_a_trial_are_taken_in_groups_and_shared_only_once_all_are_taken():
    four = [*GPUS, Device(kind="gpu", index="3", name="A100")]
    slots = find_slots("auto", gpus=four, cores=4, per_trial=2, per_device=2, limit=3)
    assert ["".join(device.index for device in slot.devices) for slot in slots] == ["01", "23", "01"]
    assert slots[0].device == four[0]
    assert str(slots[0]) == "gpu:0 (A100) + gpu:1 (A100)"


def test_gpus_that_are_left_over_stay_idle_and_are_told_of():
    said: list[str] = []
    slots = find_slots("auto", gpus=GPUS, cores=4, per_trial=2, notice=said.append)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0,1"]
    assert said == ["devices_per_trial: 3 GPUs do not divide by 2 for each trial; idle: gpu:2 (A100)"]
    said.clear()
    assert len(find_slots("auto", gpus=GPUS, cores=4, per_trial=3, notice=said.append)) == 1
    assert said == []


def test_more_gpus_for_a_trial_than_there_are_is_refused():
    with pytest.raises(DeviceError, match=r"4 GPUs for each trial, but there are only 3: .*set it to 3 or less"):
        find_slots("auto", gpus=GPUS, cores=4, per_trial=4)
    with pytest.raises(DeviceError, match=r"trainer\.devices: 0 is below 1"):
        find_slots("cpu", cores=4, per_trial=0)


def test_several_processes_for_a_trial_on_the_cpu_take_a_core_each_and_there_is_always_a_slot():
    slots = find_slots("cpu", cores=5, per_trial=2)
    assert [len(slot.devices) for slot in slots] == [2, 2]
    assert str(slots[0]).startswith("2 x cpu (")
    assert len(find_slots("cpu", cores=1, per_trial=2)) == 1
    assert len(find_slots("cpu", cores=8, per_trial=2, limit=1)) == 1


@pytest.mark.parametrize(
    ("devices", "options", "threads"),
    [
        ("cpu", {"cores": 16}, 1),
        ("cpu", {"cores": 16, "limit": 2}, 1),  # idle cores would change the result
        ("gpu", {"cores": 2}, 1),
        ("gpu", {"cores": 8}, 2),
        ("gpu", {"cores": 64}, 4),
        ("gpu", {"cores": 8, "per_device": 2}, 1),
        ("gpu", {"cores": 8, "limit": 1}, 4),
        ("gpu", {"cores": 8, "per_trial": 3}, 2),  # three processes
    ],
)
def test_gpu_slots_share_the_cores_and_a_cpu_slot_has_one(devices: str, options: dict[str, Any], threads: int):
    slots = find_slots(devices, gpus=GPUS, **options)
    assert {slot.threads for slot in slots} == {threads}
    assert slots[0].environment["OMP_NUM_THREADS"] == str(threads)


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
        ("GPU-bbbb-2222", ["gpu:GPU-bbbb-2222 (NVIDIA H100, 80GB)"]),
        ("GPU-bb, 0", ["gpu:GPU-bb (NVIDIA H100, 80GB)", "gpu:0 (NVIDIA A100)"]),  # cut short, as CUDA allows
        ("", []),
        ("-1", []),
        ("1,7,0", ["gpu:1 (NVIDIA H100, 80GB)"]),  # as CUDA has it: nothing behind what is not there
    ],
)
def test_only_gpus_that_this_process_may_use_are_found(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, found: list[str]
):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert list(map(str, find_gpus())) == found


@pytest.mark.usefixtures("nvidia_smi")
def test_parts_of_a_gpu_that_mig_cut_are_devices_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI_MIG)
    parts = ["gpu:MIG-cccc-3333 (NVIDIA A100 MIG 3g.20gb)", "gpu:MIG-cccc-4444 (NVIDIA A100 MIG 1g.5gb)"]
    assert list(map(str, find_gpus())) == ["gpu:0 (NVIDIA A100)", *parts]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-cccc-4444,MIG-cccc-3333")
    assert list(map(str, find_gpus())) == [*reversed(parts)]
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in find_slots([1])] == ["MIG-cccc-3333"]
    with pytest.raises(DeviceError, match="cut by MIG cannot train together"):
        find_slots("gpu", per_trial=2)


def test_without_a_driver_there_are_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == []
