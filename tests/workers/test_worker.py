from __future__ import annotations

import errno
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from besom.training.progress import Channel
from besom.training.result import TrialResult
from besom.workers.messages import Assignment, Blame, State
from besom.workers.worker import Parent, Trial, finish


def raising(error: Exception, monkeypatch: pytest.MonkeyPatch) -> Blame:
    """Return the blame of a trial that raises this, on a device that no longer responds."""

    def answers_no_more() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    cuda = SimpleNamespace(is_available=lambda: True, empty_cache=answers_no_more)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))  # type: ignore[arg-type]

    def run(assignment: Assignment, channel: Channel) -> TrialResult:
        raise error

    nobody: Parent = None  # type: ignore[assignment]
    result = finish(run, Assignment(trial=1, directory=Path()), Trial(1, nobody)).result
    assert result.state is State.FAIL
    assert result.failure is not None
    return result.failure.blame


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 20.00 GiB",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "MPS backend out of memory (MPS allocated: 9.05 GB)",
    ],
)
def test_too_little_memory_of_a_device_is_known_by_its_libraries_words(message: str, monkeypatch: pytest.MonkeyPatch):
    assert raising(RuntimeError(message), monkeypatch) is Blame.MEMORY


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("two options, \x1b[1mif you trust it\x1b[0m.\n(1) …", "two options, if you trust it."),
        ("\n\n-- Process 0 terminated with the following error:\nTraceback …\nKeyError: 'x'\n", "KeyError: 'x'"),
    ],
)
def test_reason_of_a_failure_is_the_line_that_tells_it_without_colors_of_a_terminal(message: str, reason: str) -> None:
    def run(assignment: Assignment, channel: Channel) -> TrialResult:
        raise ValueError(message)

    nobody: Parent = None  # type: ignore[assignment]
    failure = finish(run, Assignment(trial=1, directory=Path()), Trial(1, nobody)).result.failure
    assert failure is not None
    assert failure.reason == f"ValueError: {reason}"


def test_any_other_error_is_the_codes(monkeypatch: pytest.MonkeyPatch):
    assert raising(RuntimeError("the queue ran out of memory slots"), monkeypatch) is Blame.CODE


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "model.ckpt"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),  # as safetensors tells it
    ],
)
def test_a_full_disk_is_no_fault_of_the_trials(error: Exception, monkeypatch: pytest.MonkeyPatch):
    assert raising(error, monkeypatch) is Blame.DISK
