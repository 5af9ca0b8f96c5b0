from __future__ import annotations

from pathlib import Path

import pytest

from besom.system.hardware import free_memory, nvidia_driver

GIB = 1 << 30


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A file system as Linux shows it: 8 GiB available, the control groups of this process, and their files."""
    for path, text in {
        "proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {8 * GIB // 1024} kB\n",
        "proc/self/cgroup": groups,
        **files,
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def second(folder: str, limit: object, used: int, cached: int = 0) -> dict[str, str]:
    return {
        f"sys/fs/cgroup{folder}/memory.max": f"{limit}\n",
        f"sys/fs/cgroup{folder}/memory.current": f"{used}\n",
        f"sys/fs/cgroup{folder}/memory.stat": f"anon {used - cached}\ninactive_file {cached}\n",
    }


def first(folder: str, limit: int, used: int) -> dict[str, str]:
    return {
        f"sys/fs/cgroup/memory{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"sys/fs/cgroup/memory{folder}/memory.usage_in_bytes": f"{used}\n",
        f"sys/fs/cgroup/memory{folder}/memory.stat": "total_inactive_file 0\n",
    }


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("", {}, 8 * GIB),
        ("0::/\n", second("", "max", GIB), 8 * GIB),
        ("0::/\n", second("", 4 * GIB, 3 * GIB, cached=GIB), 2 * GIB),
        ("0::/user/job\n", second("/user/job", "max", GIB) | second("/user", 4 * GIB, GIB), 3 * GIB),
        ("0::/../elsewhere\n", {}, 8 * GIB),
        ("4:memory:/job\n3:cpu:/job\n", first("/job", 2 * GIB, GIB) | first("", 1 << 62, GIB), GIB),
        ("0::/\n", second("", GIB, 2 * GIB), 0),
    ],
)
def test_free_memory_is_what_the_machine_and_the_control_groups_leave(
    tmp_path: Path, groups: str, files: dict[str, str], free: int
):
    assert free_memory(machine(tmp_path, groups, files)) == free


def test_some_memory_is_free_here():
    assert 0 < free_memory() < 1 << 50


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar 5\nGCC version: gcc 12.2.0\n",
            "550.54.15",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124  Release Build\n", "570.124"),
        ("", None),
    ],
)
def test_the_driver_of_the_gpus_tells_its_version(tmp_path: Path, text: str, version: str | None):
    assert nvidia_driver(tmp_path) is None
    machine(tmp_path, "", {"proc/driver/nvidia/version": text})
    assert nvidia_driver(tmp_path) == version
