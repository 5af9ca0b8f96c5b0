"""Workers of the fork server: they behave like any other, and no process remains, whichever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from besom.config.checks import resolved
from besom.hydra_app.sending.main_script import CommandLine
from besom.hydra_app.sending.pickled import Pickled
from besom.hydra_app.task import HydraTask
from besom.sweep.trials.trial import for_slot
from besom.system.processes import kill_session, start
from besom.workers.devices import Device, Slot
from besom.workers.fork_server import end_fork_server
from besom.workers.messages import State
from besom.workers.pool import Died, Process, WorkerPool, launch
from besom.workers.tasks import Task, Training
from tests.fakes import cpu_slots
from tests.forking import Forked, unforked_workers
from tests.pairs import Runs

OWN = """
import json, os, resource, signal, sys, threading, time
from pathlib import Path
from besom.models import MLPClassifier

VERSION = 1
HERE = Path(__file__).parent


class Looking(MLPClassifier):
    "Writes down what it sees of its process."

    def on_train_start(self):
        files = [os.path.realpath(f"/proc/self/fd/{file}") for file in os.listdir("/proc/self/fd")]
        seen = {
            "version": VERSION,
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            # Without the empty folder that torch adds before 2.8.
            "path": [folder for folder in sys.path if not folder.rpartition("/")[2].startswith("tmp")],
            **{one.name: str(signal.getsignal(one)).split(" at ")[0] for one in signal.Signals},
            "blocked": [one.name for one in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
            "limits": [resource.getrlimit(getattr(resource, one)) for one in dir(resource) if one.startswith("RLIMIT")],
            "leads its session, its group": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
            "threads": sorted(type(one).__name__ for one in threading.enumerate()),
            "sockets, pipes": [sum(f"/{kind}:" in file for file in files) for kind in ("socket", "pipe")],
            "input": os.path.realpath("/proc/self/fd/0"),
            "output": [os.path.basename(os.path.realpath(f"/proc/self/fd/{file}")) for file in (1, 2)],
            "buffers": [sys.stdout.line_buffering, sys.stderr.line_buffering],
        }
        (HERE / f"seen-{os.getpid()}").write_text(json.dumps(seen))
        print("was here", flush=True)


class Waiting(MLPClassifier):
    def on_train_epoch_start(self):
        (HERE / f"waiting-{os.getpid()}").touch()
        while not (HERE / "go").exists():
            time.sleep(0.02)


class Leaving(MLPClassifier):
    def on_train_start(self):
        sys.exit(5)
"""

PARENT = """
import os, sys, time
from pathlib import Path
from besom.workers.messages import Ready
from besom.workers.pool import WorkerPool, launch
from besom.workers.tasks import Training
from tests.fakes import cpu_slots

FOLDER = Path(sys.argv[1])
started = []


def remember(slot, log, task):
    process, connection = launch(slot, log, task)
    started.append(process)
    note(f"first {process.pid}")
    return process, connection


def note(line):
    with (FOLDER / "notes").open("a") as notes:
        notes.write(f"{line}\\n")


def sweep(name):
    with WorkerPool(cpu_slots(1), Training(), logs=FOLDER / "logs", launcher=remember) as pool:
        while not any(isinstance(event, Ready) for event in pool.events(timeout_s=1.0)):
            pass
        note(f"{name} {os.getpid()} {started[-1].pid}")


sweep("parent")
idle = os.fork()
if idle and os.fork() == 0:
    note(f"idle {idle}")
    sweep("child")
time.sleep(3600)
"""

Config = Callable[..., dict[str, Any]]


@pytest.fixture
def config(compose: Callable[..., DictConfig]) -> Config:
    """A network on digits, for two epochs, as a slot has it; of a class in `own.py`."""

    def make(model: str, *overrides: str) -> dict[str, Any]:
        small = ("model.width=8", "model.depth=1", "trainer.max_epochs=2")
        config = resolved(for_slot(compose(*small, *overrides), cpu_slots(1)[0], test=False))
        return {**config, "model": {**config["model"], "_target_": f"own.{model}"}}

    return make


@pytest.fixture(autouse=True)
def _own(folder: Path) -> None:
    (folder / "own.py").write_text(OWN)


@pytest.fixture
def _unforked() -> Iterator[None]:
    """Start the fork server, and the workers that import for themselves, as a user's are."""
    end_fork_server()
    with unforked_workers():
        yield
    end_fork_server()


class Launched:
    """The workers that were started, in order."""

    def __init__(self) -> None:
        self.processes: list[Process] = []

    def __call__(self, slot: Slot, log: Path, task: Task) -> tuple[Process, Connection]:
        process, connection = launch(slot, log, task)
        self.processes.append(process)
        return process, connection


def afresh(slot: Slot, log: Path, task: Task) -> tuple[Process, Connection]:
    """A worker that imports for itself."""
    with log.open("ab") as output:
        return start("besom.workers.worker", environment={**os.environ, **slot.environment}, output=output)


def pool_of(slots: list[Slot], folder: Path, launcher: Any = launch) -> WorkerPool:
    return WorkerPool(slots, Training(), logs=folder / "logs", launcher=launcher)


def eventually(look: Callable[[], Any]) -> Any:
    """Wait until `look` returns something, and return it."""
    end = time.monotonic() + 120
    while not (found := look()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    return found


def stat_of(pid: int) -> list[str]:
    """State, parent, group, session and more of a process; state X of one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X", "0"]


def gone(*pids: int) -> bool:
    return all(stat_of(pid)[0] in "ZX" for pid in pids)


def fork_server_of(pid: int) -> int:
    """Return the process that forked a worker, which must be a fork server: only that leads a session of its own."""
    parent = int(stat_of(pid)[1])
    assert parent not in (1, os.getpid(), os.getsid(0))
    assert os.getsid(parent) == parent
    return parent


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def seen(folder: Path) -> tuple[int, dict[str, Any]]:
    """Return what the one process that looked has seen since the last time."""
    (file,) = folder.glob("seen-*")
    found = json.loads(file.read_text())
    file.unlink()
    return int(file.name.removeprefix("seen-")), found


def folder_with_modules_called_as_libraries(folder: Path) -> Path:
    folder.mkdir()
    for module in ("queue", "yaml", "torch"):
        (folder / f"{module}.py").write_text("raise AssertionError('this is no library')")
    return folder


@pytest.mark.usefixtures("_unforked")
def test_a_forked_worker_sees_and_computes_what_a_started_one_does_and_takes_no_library_from_its_folder(
    folder: Path, config: Config, monkeypatch: pytest.MonkeyPatch
):
    (slot,) = slots = cpu_slots(1)
    wide = ("model.width=512", "data.batch_size=512", "model.dropout=0.3")
    configs = [config("Looking"), config("Looking", *wide, "threads=2"), config("Looking", *wide)]
    monkeypatch.chdir(folder_with_modules_called_as_libraries(folder / "here"))
    found = {}
    for launcher in (launch, afresh):
        (folder / launcher.__name__).mkdir()
        with pool_of(slots, folder, launcher) as pool:
            runs = Runs(pool, folder / launcher.__name__)
            ends = [runs.train(slot, config) for config in configs]
            pid, sight = seen(folder)
            assert (b"besom.workers.fork_server_process" in command_of(pid)) is (launcher is launch)
        values = [(end.values, runs.epochs(trial)) for trial, end in enumerate(ends)]
        assert all(values)
        found[launcher.__name__] = sight, values
    (sight, values), (usual, expected) = found["launch"], found["afresh"]
    assert values == expected
    assert {name: sight[name] for name in sight if sight[name] != usual[name]} == {}
    assert (sight["environment"]["OMP_NUM_THREADS"], sight["environment"]["CUDA_VISIBLE_DEVICES"]) == ("1", "")
    assert (sight["folder"], sight["path"][-1]) == (str(folder / "here"),) * 2
    assert (folder / "logs" / "worker-0.log").read_text().count("was here") == 2 * len(configs)


def test_a_worker_is_forked_into_the_folder_of_its_sweep(folder: Path, config: Config, monkeypatch: pytest.MonkeyPatch):
    (slot,) = slots = cpu_slots(1)
    fork_servers = set()
    for name in ("one", "two"):
        where = folder_with_modules_called_as_libraries(folder / name)
        monkeypatch.chdir(where)
        with pool_of(slots, folder) as pool:
            Runs(pool, where).train(slot, config("Looking"))
            pid, sight = seen(folder)
            assert (sight["folder"], sight["path"][-1]) == (str(where), str(where))
            fork_servers.add(fork_server_of(pid))
    assert len(fork_servers) == 1


def test_one_fork_server_serves_all_slots_and_sweeps_and_code_is_read_anew_for_each(folder: Path, config: Config):
    slots = cpu_slots(2)
    with pool_of(slots, folder, launched := Launched()) as pool:
        runs = Runs(pool, folder)
        runs.train(slots[0], config("Looking"))
        first, sight = seen(folder)
        assert sight["version"] == 1
        runs.finish(runs.submit(slots[1], config("Looking")))
        second, _ = seen(folder)
        fork_server = fork_server_of(first)
        assert fork_server_of(second) == fork_server
        assert [process.pid for process in launched.processes] == [first, second]

        waiting = runs.submit(slots[0], config("Waiting"))
        killed = runs.submit(slots[1], config("Waiting"))
        eventually(lambda: len(list(folder.glob("waiting-*"))) == 2)
        os.kill(second, signal.SIGKILL)
        death = runs.listen(lambda event: isinstance(event, Died))
        assert death.trials == (killed,)
        assert f"(pid {second}) was killed by SIGKILL" in death.reason
        (folder / "go").touch()
        assert runs.finish(waiting).state is State.COMPLETE
        runs.submit(slots[1], config("Leaving"))
        left = runs.listen(lambda event: isinstance(event, Died) and event is not death)
        assert "exited with code 5" in left.reason
    assert gone(first, second)

    (folder / "own.py").write_text(OWN.replace("VERSION = 1", "VERSION = 1000"))
    with pool_of(slots[:1], folder) as pool:
        Runs(pool, folder / "logs").train(slots[0], config("Looking"))
        third, sight = seen(folder)
        assert sight["version"] == 1000
        assert fork_server_of(third) == fork_server


def test_a_fork_server_that_is_killed_costs_nothing(folder: Path, config: Config):
    end_fork_server()
    slots = cpu_slots(2)
    with ExitStack() as stack:
        with unforked_workers():
            pool = stack.enter_context(pool_of(slots, folder, launched := Launched()))
            fork_server = launched.processes[0].pid
            os.kill(fork_server, signal.SIGKILL)  # while it imports
        runs = Runs(pool, folder)
        trials = [runs.submit(slot, config("Waiting")) for slot in slots]
        eventually(lambda: list(pool.events(timeout_s=0.1)) or len(list(folder.glob("waiting-*"))) == 2)
        eventually(lambda: len(list(folder.glob("waiting-*"))) == 2)
        pids = [process.pid for process in launched.processes[2:]]
        successor = fork_server_of(pids[0])
        assert successor != fork_server
        os.kill(successor, signal.SIGKILL)  # while its workers train
        eventually(lambda: gone(successor))
        os.kill(pids[1], signal.SIGKILL)
        death = runs.listen(lambda event: isinstance(event, Died))
        assert death.trials == (trials[1],)
        (folder / "go").touch()
        assert runs.finish(trials[0]).state is State.COMPLETE
        assert runs.finish(runs.submit(slots[1], config("Waiting"))).state is State.COMPLETE
        last = launched.processes[-1].pid
        assert fork_server_of(last) not in (fork_server, successor)
    assert gone(*pids, last)


def test_a_worker_that_was_not_waited_for_is_never_forked(folder: Path):
    slots = cpu_slots(1)
    with pool_of(slots, folder, launched := Launched()) as pool:
        eventually(lambda: list(pool.events(timeout_s=0.1)))
        fork_server = fork_server_of(launched.processes[0].pid)
    os.kill(fork_server, signal.SIGSTOP)
    with pool_of(slots, folder, launched):
        pass
    os.kill(fork_server, signal.SIGCONT)
    with pool_of(slots, folder, launched) as pool:
        eventually(lambda: list(pool.events(timeout_s=0.1)))
        forked = Path(f"/proc/{fork_server}/task/{fork_server}/children").read_text().split()
        assert forked == [str(launched.processes[2].pid)]


@pytest.mark.usefixtures("_unforked")
def test_another_environment_has_another_fork_server_or_none_while_the_first_is_busy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    slots = cpu_slots(1)

    def started() -> tuple[int, bytes]:
        pid = launched.processes[-1].pid
        return pid, eventually(lambda: command_of(pid))

    with pool_of(slots, folder, launched := Launched()):
        first, command = started()
        assert b"besom.workers.fork_server_process" in command
        monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
        with pool_of(slots, folder, launched):
            other, command = started()
            assert b"besom.workers.worker" in command
        assert gone(other)
    with pool_of(slots, folder, launched):
        second, command = started()
        assert b"besom.workers.fork_server_process" in command
        assert second != first
        assert gone(first)
    monkeypatch.setenv("PYTHONPATH", ".")  # which says something else in another folder
    for where in (folder, folder / "logs"):
        monkeypatch.chdir(where)
        with pool_of(slots, folder, launched):
            third, command = started()
            assert b"besom.workers.fork_server_process" in command
            assert third != second
            second = third


@pytest.mark.usefixtures("_unforked")
@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_only_a_worker_without_a_gpu_that_trains_besoms_own_configs_is_forked(kind: str, folder: Path):
    slot = Slot(index=0, devices=(Device(kind=kind, name="a device"),))
    app = Pickled(data=b"", script=None, path=(), process=0)
    command = CommandLine(program="theirs.py", flags=())
    task = Training() if kind == "gpu" else HydraTask(app=app, command=command, metrics=())
    process, connection = launch(slot, folder / "log", task)
    with connection:
        assert b"besom.workers.worker" in eventually(lambda: command_of(process.pid))
        process.kill()
        assert process.wait() == -signal.SIGKILL


def test_where_libraries_start_threads_nothing_is_forked_and_trials_train(
    folder: Path, config: Config, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    (slot,) = slots = cpu_slots(1)
    with pool_of(slots, folder) as pool:
        assert Runs(pool, folder).train(slot, config("Looking")).state is State.COMPLETE
        pid, sight = seen(folder)
        assert b"besom.workers.worker" in command_of(pid)
        assert sight["leads its session, its group"] == [True, True]


def notes(folder: Path, count: int) -> list[tuple[Any, ...]]:
    """Wait for this many notes of a parent, and return them: subjects and processes."""

    def look() -> list[str]:
        lines = (folder / "notes").read_text().splitlines() if (folder / "notes").exists() else []
        return lines if len(lines) >= count else []

    return [(name, *map(int, pids)) for name, *pids in map(str.split, eventually(look))]


@pytest.fixture
def parent(folder: Path) -> Iterator[Callable[[type[subprocess.Popen[Any]]], subprocess.Popen[Any]]]:
    """Start a process that sweeps, and forks another that does."""
    (folder / "parent.py").write_text(PARENT)
    path = [str(Path(__file__).parents[2]), os.environ["PYTHONPATH"]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    started: list[subprocess.Popen[Any]] = []

    def begin(process: type[subprocess.Popen[Any]]) -> subprocess.Popen[Any]:
        command = [sys.executable, str(folder / "parent.py"), str(folder)]
        started.append(process(command, env=environment, start_new_session=True))
        return started[-1]

    yield begin
    for process in started:
        kill_session(process.pid)
        process.wait()


def test_a_parent_that_is_killed_takes_along_a_fork_server_that_still_imports(folder: Path, parent: Any):
    process = parent(subprocess.Popen)
    ((_, fork_server),) = notes(folder, 1)
    process.kill()
    process.wait()
    eventually(lambda: gone(fork_server))
    assert len(notes(folder, 1)) == 1, "before its worker was ready"


def test_a_forked_process_has_a_fork_server_of_its_own_and_each_ends_with_its_parent(folder: Path, parent: Any):
    process = parent(Forked)
    (_, fork_server), (_, own, worker), (_, idle), (_, others), (_, child, grandchild) = notes(folder, 5)
    assert own == process.pid
    assert fork_server != others
    assert not gone(fork_server)
    process.kill()
    process.wait()
    eventually(lambda: gone(fork_server, worker))
    assert not any(map(gone, (idle, child, others)))
    os.kill(idle, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    eventually(lambda: gone(others, grandchild))
