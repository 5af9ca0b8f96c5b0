"""One job leaves nothing to the next one in the same worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from besom.hydra_app.job import unpack_job
from tests.hydra_app.conftest import App, Job

MakeApp = Callable[..., App]

THEIRS = """\
import sys
import warnings

import torch

torch.set_float32_matmul_precision("medium")
warnings.filterwarnings("ignore", message="of their module")
sys.modules[__name__].run = object()  # as `wandb.run` is, while a run is active
finished = []


def finish(exit_code):
    finished.append(exit_code)
    del sys.modules[__name__].run
"""


def look() -> dict[str, Any]:
    """Return the state of this process."""
    import gc
    import logging
    import os
    import random
    import signal
    import sys
    import warnings

    import numpy
    import torch
    from omegaconf import OmegaConf

    return {
        "seeds": (random.random(), float(numpy.random.rand())),
        "torch": float(torch.rand((), device="cpu")),
        "state": {
            "dtype": torch.get_default_dtype(),
            "device": str(torch.get_default_device()),
            "grad": torch.is_grad_enabled(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "precision": torch.get_float32_matmul_precision(),
            "threads": torch.get_num_threads(),
            "benchmark": torch.backends.cudnn.benchmark,
            "errors": numpy.geterr(),
            "ignored": [str(entry[1]) for entry in warnings.filters],
            "left": os.environ.get("LEFT"),
            "home": os.environ["HOME"],
            "folder": str(Path.cwd()),
            "handler": str(signal.getsignal(signal.SIGUSR1)),
            "alarm": signal.getitimer(signal.ITIMER_REAL),
            "path": list(sys.path),
            "output": (sys.stdout is sys.__stdout__, os.fstat(1).st_ino),
            "hook": sys.excepthook is sys.__excepthook__,
            "level": logging.getLogger("theirs.own").level,
            "handlers": len(logging.getLogger("theirs.own").handlers),
            "disabled": logging.root.manager.disable,
            "resolver": OmegaConf.has_resolver("once"),
            "gc": gc.isenabled(),
        },
    }


def leave_everything() -> None:
    """Change what `look` returns, and never put it back."""
    import gc
    import io
    import logging
    import os
    import random
    import signal
    import sys
    import warnings

    import numpy
    import torch
    from omegaconf import OmegaConf

    random.seed(1)
    numpy.random.seed(1)
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("high")
    torch.set_num_threads(3)
    torch.backends.cudnn.benchmark = True
    numpy.seterr(all="raise")
    warnings.simplefilter("error")
    os.environ["LEFT"] = "behind"
    os.environ["HOME"] = "/nowhere"
    os.chdir("/")
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 1000)
    sys.path.insert(0, "/nowhere")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout = io.StringIO()
    sys.excepthook = print
    logging.getLogger("theirs.own").setLevel(5)
    logging.getLogger("theirs.own").addHandler(logging.NullHandler())
    logging.disable(logging.ERROR)
    OmegaConf.register_new_resolver("once", lambda: 1)
    gc.disable()


def value(job: Job) -> Any:
    assert job.result is not None
    assert job.result.job is not None, job.result.failure
    return unpack_job(job.result.job).return_value


def test_state_of_the_process_is_put_back_but_for_what_imports_set(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> Any:
        import os

        if config.what == "leave":
            leave_everything()
        import wandb  # imported by the first job, when that has changed everything

        return {**look(), "pid": os.getpid(), "wandb": (hasattr(wandb, "run"), wandb.finished)}

    app = hydra_app()
    (app.folder / "wandb.py").write_text(THEIRS, encoding="utf-8")
    leave, see = ["+what=leave"], ["+what=look"]
    left, first, again, second = map(value, app.run(task, leave, see, leave, see, metrics=()))
    assert first["state"] == second["state"]
    assert first["pid"] == left["pid"] == second["pid"]
    state = first["state"]
    assert (str(state["dtype"]), state["device"], state["grad"], state["threads"]) == ("torch.float32", "cpu", True, 1)
    assert state["precision"] == "medium"
    assert any("of their module" in entry for entry in state["ignored"])
    assert (state["left"], state["folder"], state["alarm"]) == (None, str(app.folder), (0.0, 0.0))
    assert not set(first["seeds"]) & set(second["seeds"])
    assert first["torch"] == second["torch"] != left["torch"]
    assert {name for name in state if again["state"][name] != state[name]} == set(state)
    assert (left["wandb"], first["wandb"]) == ((True, []), (False, [0]))


def test_worker_in_which_something_goes_on_is_replaced(hydra_app: MakeApp) -> None:
    def task(config: DictConfig) -> Any:
        import os
        import subprocess
        import threading
        import time
        from concurrent.futures import ThreadPoolExecutor

        def forever() -> None:
            while True:
                time.sleep(0.1)

        if config.what == "thread":
            threading.Thread(target=forever, daemon=True, name="theirs").start()
        elif config.what == "process":
            subprocess.Popen(["sleep", "1000"])
        elif config.what == "kept":
            ThreadPoolExecutor().submit(int)
            subprocess.run(["true"], check=True)
        return os.getpid()

    app = hydra_app()
    kinds = [["+what=kept"], ["+what=thread"], ["+what=process"], ["+what=nothing"]]
    kept, thread, process, nothing = map(value, app.run(task, *kinds, metrics=()))
    assert kept == thread
    assert len({thread, process, nothing}) == 3
    log = next((app.folder / "logs").glob("worker-0.log")).read_text(encoding="utf-8")
    assert "besom: trial 1 left a thread that goes on (theirs): a new process takes this one's place" in log
    assert "trial 2 left a process that goes on (pid" in log
    assert "sleep 1000)" in log
    assert not _runs("sleep 1000")


def _runs(command: str) -> bool:
    lines = (path.read_bytes().replace(b"\0", b" ") for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    return any(line.strip() == command.encode() for line in lines)
