"""The parent's side of the fork server, and of the workers that it forks.

One fork server serves all sweeps of a process, and ends with it. A forked worker behaves like one that is started
afresh: it leads its own session, in the current folder of this process, with the environment in which the fork server
was started. A different environment needs a new fork server, which replaces the old one.

The fork server of `multiprocessing` gives less: it has its parent's environment and takes a module of the current
folder for a library, outlives a killed parent until its imports are done, and reaps a worker at once, so that a kill of
the worker's session could hit a stranger with the same process id.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from besom.system.processes import GroupLeader, kill_with_children, session_members, start


def start_worker(environment: Mapping[str, str], output: IO[bytes]) -> tuple[GroupLeader | ForkedWorker, Connection]:
    """Start a worker for Besom's own configs: by fork where the result is the same, else as a new process."""
    global _fork_server
    with _choosing:
        try:
            place = _place(environment)
            if (
                _fork_server is None
                or not _fork_server.is_alive()
                or (_fork_server.place != place and not _fork_server.is_busy())
            ):
                end_fork_server()
                _fork_server = ForkServerClient(environment, output)
            if _fork_server.place == place:
                return _fork_server.fork(output)
        except OSError:
            pass  # the fork server has just died, or the folder is gone
    return start("besom.workers.worker", environment=environment, output=output)


def end_fork_server() -> None:
    """End this process's fork server, if there is one; the workers that it forked keep running."""
    global _fork_server
    if _fork_server is not None:
        _fork_server.end()
        _fork_server = None


def _place(environment: Mapping[str, str]) -> tuple[Mapping[str, str], Path | None]:
    """Return what a fork server's workers share: the environment, and the folder if PYTHONPATH is relative to it."""
    path = environment.get("PYTHONPATH", "")
    return environment, Path.cwd() if path and not all(map(os.path.isabs, path.split(os.pathsep))) else None


class ForkServerClient:
    """A handle on the fork server process, which imports a worker's libraries and forks workers of the same `place`."""

    def __init__(self, environment: Mapping[str, str], output: IO[bytes]) -> None:
        self.place = _place(environment)
        self._process, self._control = start(
            "besom.workers.fork_server_process", environment=environment, output=output
        )
        self._workers: list[ForkedWorker] = []

    def is_alive(self) -> bool:
        """Return whether the process is running."""
        return self._process.poll() is None

    def is_busy(self) -> bool:
        """Return whether a forked worker has not been waited for yet."""
        return not all(worker.reaped for worker in self._workers)

    def fork(self, output: IO[bytes]) -> tuple[ForkedWorker, Connection]:
        """Request a worker, which starts once the imports are done. Raises OSError if the fork server is gone."""
        ours, theirs = Pipe()
        status, writer = Pipe()
        with theirs, writer, socket.fromfd(self._control.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as control:
            folder = os.open(".", os.O_RDONLY)
            try:
                socket.send_fds(control, [b"f"], [theirs.fileno(), writer.fileno(), output.fileno(), folder])
            finally:
                os.close(folder)
        self._workers = [worker for worker in self._workers if not worker.reaped]
        self._workers.append(ForkedWorker(self._process, status))
        return self._workers[-1], ours

    def end(self) -> None:
        """Kill the fork server."""
        self.leave()
        self._process.kill()
        self._process.wait()

    def leave(self) -> None:
        """Close this process's end of the pipe: the fork server ends when no process has it open."""
        self._control.close()


class ForkedWorker:
    """A worker that is a child of the fork server.

    The status pipe carries its process id, which the worker itself sends first, and its exit code, which the fork
    server sends. The fork server reaps it only after `wait`, so that its process id is not reused before.
    """

    def __init__(self, fork_server: GroupLeader, status: Connection) -> None:
        self.reaped = False
        self._fork_server = fork_server
        self._status = status
        self._pid: int | None = None
        self._code: int | None = None

    @property
    def pid(self) -> int:
        """The process id; the fork server's until the worker is forked."""
        self._poll()
        return self._pid or self._fork_server.pid

    def kill(self) -> None:
        """Kill the worker and its child processes; no-op once it was waited for."""
        self._poll()
        if self._pid is None:
            self._code = -signal.SIGKILL if self._code is None else self._code
            self._status.close()  # the fork server forks no worker whose status pipe is closed
        elif not self.reaped:
            kill_with_children(self._pid)

    def wait(self) -> int:
        """Return the exit code, negative for a signal; the fork server's own if that died without reporting one."""
        while self._code is None:
            self._receive()
        with contextlib.suppress(EOFError, OSError):
            self._status.send(None)
            self._status.recv()  # EOF: the worker is reaped
        while self._pid is not None and self._pid in session_members(self._pid):
            time.sleep(0.01)  # the fork server is gone, and no other process reports the end
        self._status.close()
        self.reaped = True
        return self._code

    def _poll(self) -> None:
        while self._code is None and self._status.poll():
            self._receive()

    def _receive(self) -> None:
        try:
            status: int = self._status.recv()
        except (EOFError, OSError):
            self._code = self._fork_server.wait()
            return
        if self._pid is None:
            self._pid = status
        else:
            self._code = status


_fork_server: ForkServerClient | None = None
_choosing = threading.Lock()


def _leave() -> None:
    """Leave the fork server to the parent, in a process that was forked from this one."""
    global _fork_server, _choosing
    if _fork_server is not None:
        _fork_server.leave()
        _fork_server = None
    _choosing = threading.Lock()


atexit.register(end_fork_server)
os.register_at_fork(after_in_child=_leave)
