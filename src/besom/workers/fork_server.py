"""Workers that are forked: the nursery, which forks them, and its workers, as the parent of all sees them.

One nursery serves all sweeps of a process, and ends with it. A worker that it forks differs in nothing from one that
is started afresh: it leads a session of its own, in the folder in which this process is, and finds itself in the
environment in which the nursery was started. For others, another nursery takes its place.
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

from besom.system.processes import Led, kill_with_children, session_members, start


def start_worker(environment: Mapping[str, str], output: IO[bytes]) -> tuple[Led | Forked, Connection]:
    """Start a worker that trains Besom's own configs: fork it where that comes to the same, or else start it afresh."""
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
                _fork_server = ForkServer(environment, output)
            if _fork_server.place == place:
                return _fork_server.fork(output)
        except OSError:
            pass  # it died just now, or the folder is gone
    return start("besom.workers.worker", environment=environment, output=output)


def end_fork_server() -> None:
    """End this process's nursery, if there is one; the workers that it forked go on."""
    global _fork_server
    if _fork_server is not None:
        _fork_server.end()
        _fork_server = None


def _place(environment: Mapping[str, str]) -> tuple[Mapping[str, str], Path | None]:
    """What all workers of a nursery have in common: the environment, and the folder where PYTHONPATH starts there."""
    path = environment.get("PYTHONPATH", "")
    return environment, Path.cwd() if path and not all(map(os.path.isabs, path.split(os.pathsep))) else None


class ForkServer:
    """A process that imports what a worker needs, and then forks, for those of the same `place`."""

    def __init__(self, environment: Mapping[str, str], output: IO[bytes]) -> None:
        self.place = _place(environment)
        self._process, self._control = start(
            "besom.workers.fork_server_process", environment=environment, output=output
        )
        self._workers: list[Forked] = []

    def is_alive(self) -> bool:
        """Whether it is there."""
        return self._process.poll() is None

    def is_busy(self) -> bool:
        """Whether a worker that it forked was not waited for."""
        return not all(worker.over for worker in self._workers)

    def fork(self, output: IO[bytes]) -> tuple[Forked, Connection]:
        """Ask for a worker, which is there once everything is imported. Raises OSError if the nursery is gone."""
        ours, theirs = Pipe()
        news, teller = Pipe()
        with theirs, teller, socket.fromfd(self._control.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as control:
            folder = os.open(".", os.O_RDONLY)
            try:
                socket.send_fds(control, [b"f"], [theirs.fileno(), teller.fileno(), output.fileno(), folder])
            finally:
                os.close(folder)
        self._workers = [worker for worker in self._workers if not worker.over]
        self._workers.append(Forked(self._process, news))
        return self._workers[-1], ours

    def end(self) -> None:
        """End it at once."""
        self.leave()
        self._process.kill()
        self._process.wait()

    def leave(self) -> None:
        """Close this process's end of its pipe: it ends when nobody has that open."""
        self._control.close()


class Forked:
    """A worker that a nursery forked, whose child it is.

    Its news are its number, which it says before anything else, and its exit code, which the nursery says. That
    reaps it only when it was waited for, so that its number is not given to another process before.
    """

    def __init__(self, fork_server: Led, news: Connection) -> None:
        self.over = False
        self._fork_server = fork_server
        self._news = news
        self._pid: int | None = None
        self._code: int | None = None

    @property
    def pid(self) -> int:
        """Its number; the nursery's until it is there."""
        self._listen()
        return self._pid or self._fork_server.pid

    def kill(self) -> None:
        """End it at once, with whatever it started; nothing once it was waited for."""
        self._listen()
        if self._pid is None:
            self._code = -signal.SIGKILL if self._code is None else self._code
            self._news.close()  # for whom nobody listens, the nursery does not fork
        elif not self.over:
            kill_with_children(self._pid)

    def wait(self) -> int:
        """Return its exit code, negative for a signal; the nursery's own where that is gone and cannot tell."""
        while self._code is None:
            self._hear()
        with contextlib.suppress(EOFError, OSError):
            self._news.send(None)
            self._news.recv()  # closed: it is reaped
        while self._pid is not None and self._pid in session_members(self._pid):
            time.sleep(0.01)  # the nursery is gone, and nobody else tells
        self._news.close()
        self.over = True
        return self._code

    def _listen(self) -> None:
        while self._code is None and self._news.poll():
            self._hear()

    def _hear(self) -> None:
        try:
            news: int = self._news.recv()
        except (EOFError, OSError):
            self._code = self._fork_server.wait()
            return
        if self._pid is None:
            self._pid = news
        else:
            self._code = news


_fork_server: ForkServer | None = None
_choosing = threading.Lock()


def _leave() -> None:
    """In a process that was forked from this one: leave the nursery to its parent."""
    global _fork_server, _choosing
    if _fork_server is not None:
        _fork_server.leave()
        _fork_server = None
    _choosing = threading.Lock()


atexit.register(end_fork_server)
os.register_at_fork(after_in_child=_leave)
