"""Commands as processes of their own, forked from one that has imported what they import: that saves seconds each."""

from __future__ import annotations

import atexit
import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, AnyStr

from besom.system import processes
from besom.system.processes import GroupLeader
from besom.workers.devices import Device, Slot
from tests.forker import IMPORTED, Request

ROOT = Path(__file__).parents[1]
_SERVE = """
import sys
sys.path.append({root!r})
from tests import forker, forking
forking.fork_from({name!r})
sys.path.remove({root!r})
forker.main({kind!r}, *{descriptors})
"""

# What an interpreter or a library reads when it starts, or is imported.
_READ_AT_START = re.compile(r"PYTHON(?!PATH$|UNBUFFERED$)|LD_|LC_|LANG|OMP_|MKL_|OPENBLAS_|MLFLOW_LOGGING_")
_USUAL = dict(os.environ)

_EXECUTE_CHILD = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_STANDARD = ("p2cread", "c2pwrite", "errwrite")


class Forked(subprocess.Popen[AnyStr]):
    """A Python command that is forked. It is no child of this process, which hears of its end all the same.

    It is started as usual where its environment says something of its own to an interpreter that starts, or has it
    import another library of a name, or where it is to lead a process group in this process's session.
    """

    _news: socket.socket | None = None

    # What Popen does for itself, with the same arguments by name in each Python from 3.11 on.

    def _execute_child(self, *given: Any) -> None:
        asked = _EXECUTE_CHILD.bind(self, *given).arguments
        environment = dict(os.environ if asked["env"] is None else asked["env"])
        kind = kind_of(asked["args"])
        leads_its_group = not asked["start_new_session"] and asked["process_group"] != -1
        if leads_its_group or read_at_start(environment) != read_at_start(usual(kind)) or hides_a_library(environment):
            super()._execute_child(*given)  # type: ignore[misc]
            return
        standard = [asked[name] if asked[name] >= 0 else usual for usual, name in enumerate(_STANDARD)]
        request = Request(
            command=list(map(os.fspath, asked["args"])),
            folder=str(Path.cwd() if asked["cwd"] is None else Path(asked["cwd"]).absolute()),
            environment=environment,
            targets=[0, 1, 2, *asked["pass_fds"]],
            session=asked["start_new_session"],
        )
        self._news, self.pid = ask(kind, request, [*standard, *asked["pass_fds"]])
        self._child_created = True
        self._close_pipe_fds(*(asked[name] for name in _PIPES))  # type: ignore[attr-defined]

    def _internal_poll(self, *arguments: Any, **options: Any) -> int | None:
        if self._news is None:
            return super()._internal_poll(*arguments, **options)  # type: ignore[misc,no-any-return]
        if self.returncode is None and wait([self._news], 0):
            self._hear(self._news)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self._news is None:
            return super()._wait(timeout)  # type: ignore[misc,no-any-return]
        if self.returncode is None:
            if not wait([self._news], timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self._hear(self._news)
        return self.returncode

    def _hear(self, news: socket.socket) -> None:
        self.returncode = int(news.recv(16) or -signal.SIGKILL)
        news.close()


class ForkedGroupLeader(Forked[bytes], GroupLeader):
    """A process that a parent of workers starts."""


def run(
    command: Sequence[str | Path], *, timeout: float, check: bool = False, capture_output: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a Python command, forked, as `subprocess.run` does with text."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} if capture_output else {}
    with Forked[str](command, text=True, **pipes, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment a process that is forked cannot take in."""
    return {name: value for name, value in environment.items() if _READ_AT_START.match(name)}


def hides_a_library(environment: Mapping[str, str]) -> bool:
    """True if PYTHONPATH holds a module that is called as an installed library is, which has been imported already."""
    installed = {path.name for path in Path(sysconfig.get_path("purelib")).iterdir()}
    inherited = {"", *_USUAL.get("PYTHONPATH", "").split(os.pathsep)}
    folders = map(Path, {*environment.get("PYTHONPATH", "").split(os.pathsep)} - inherited)
    return any(path.name in installed for folder in folders if folder.is_dir() for path in folder.iterdir())


def kind_of(command: Sequence[Any]) -> str:
    """Which process forks a command."""
    modules = {"besom.workers.fork_server_process": "fork_servers", "besom.workers.worker": "workers"}
    return next((modules[word] for word in command if word in modules), "parents")


def usual(kind: str) -> dict[str, str]:
    """The environment of what forks commands of a kind: for what trains or runs jobs, that of a slot on the CPU."""
    slot = Slot(index=0, devices=(Device(kind="cpu", name="a processor"),))
    return _USUAL if kind == "parents" else {**_USUAL, **slot.environment}


def ask(kind: str, request: Request, files: Sequence[int]) -> tuple[socket.socket, int]:
    """Have a command forked; return what tells of its end, and its number."""
    news = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    news.connect(f"{forkers()}-{kind}")
    socket.send_fds(news, [json.dumps(vars(request)).encode()], files)
    answer = news.recv(16)
    assert answer, "the process that forks commands has ended; its words are on stderr"
    return news, int(answer)


@cache
def forkers() -> str:
    """Start the processes that fork, which end with this one; return what the names of their sockets begin with."""
    name = f"\0besom-tests-{uuid.uuid4().hex}"
    lifeline, _ours = os.pipe()
    for kind in IMPORTED:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(f"{name}-{kind}")
            listener.listen(64)
            descriptors = (lifeline, listener.fileno())
            code = _SERVE.format(root=str(ROOT), name=name, kind=kind, descriptors=descriptors)
            process = subprocess.Popen([sys.executable, "-P", "-c", code], env=usual(kind), pass_fds=descriptors)
            atexit.register(_end, process)
    os.close(lifeline)
    return name


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def fork_from(name: str) -> None:
    """Have what this process starts forked by those processes; what a parent of workers starts, too."""
    global forkers
    forkers = cache(lambda: name)
    fork_workers()


def fork_workers() -> None:
    """Have the processes forked that a parent of workers starts."""
    processes.GroupLeader = ForkedGroupLeader  # type: ignore[misc]


@contextmanager
def unforked_workers() -> Iterator[None]:
    """Start what a parent of workers starts as a user's is, for the time of a `with` block."""
    processes.GroupLeader = GroupLeader  # type: ignore[misc]
    try:
        yield
    finally:
        fork_workers()
