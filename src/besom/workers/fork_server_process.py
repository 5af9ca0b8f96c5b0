"""The fork server: `python -m besom.workers.fork_server_process FD` imports torch and Lightning once for all workers.

It trains nothing and imports no user code: each worker does that itself.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NoReturn

from besom.system.processes import end_with_children
from besom.workers import worker
from besom.workers.tasks import Training


def main(descriptor: int) -> None:
    """Serve the inherited pipe at a file descriptor; in each forked worker, run the worker's loop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # it takes a third of the import time and finds nothing; a worker enables it
    environment = dict(os.environ)  # before libraries add to it
    parent = socket.socket(fileno=descriptor)
    with _ending_with(parent):
        import numpy  # noqa: F401

        if _has_one_thread():  # else OPENBLAS_NUM_THREADS or the like started more
            import besom.bundle.train  # noqa: F401

            Training().load()
    gc.freeze()  # else the first collection in a worker would write to, and so copy, all imported objects
    safe = _has_one_thread()
    pipe = ForkServer(parent).serve()
    if not safe:
        _start_afresh(pipe, environment)
    importlib.invalidate_caches()  # finds modules written since the fork server listed the folders
    worker.main(pipe)


def _has_one_thread() -> bool:
    """Return whether this process can be forked: another thread may hold a lock, which nothing releases in the fork."""
    return len(list(Path("/proc/self/task").iterdir())) == 1


@contextmanager
def _ending_with(parent: socket.socket) -> Iterator[None]:
    """End this process at once if the parent process ends while the block runs.

    A signal reports it: a listening thread could hold a lock when the process forks.
    """
    hung_up = select.poll()
    hung_up.register(parent, 0)  # POLLHUP needs no event mask

    def look(*_: object) -> None:
        if hung_up.poll(0):
            end_with_children()

    before = signal.signal(signal.SIGIO, look)
    signal.siginterrupt(signal.SIGIO, False)  # a request raises the signal too, and must not interrupt a library's read
    fcntl.fcntl(parent, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(parent, fcntl.F_SETFL, os.O_ASYNC)
    look()
    yield
    fcntl.fcntl(parent, fcntl.F_SETFL, 0)
    signal.signal(signal.SIGIO, before)


def _start_afresh(pipe: int, environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by a worker that imports the libraries itself, in the fork server's original environment."""
    os.set_inheritable(pipe, True)
    os.execve(sys.executable, [sys.executable, "-P", "-m", "besom.workers.worker", str(pipe)], dict(environment))


class ForkServer:
    """Forks workers for the parent process, and reports how each of them ended."""

    def __init__(self, parent: socket.socket) -> None:
        self._parent = parent
        self._running: dict[int, Connection] = {}
        self._ended: dict[int, Connection] = {}

    def serve(self) -> int:
        """Fork a worker for each request; exit with the parent process. In each worker, return its pipe."""
        with self._parent, child_exits() as exits:
            while True:
                ready = wait([self._parent, exits, *self._ended.values()])
                if exits in ready:
                    os.read(exits, 4096)
                    self._report_exits()
                self._reap(ready)
                if self._parent in ready and (pipe := self._fork()) is not None:
                    return pipe

    def _fork(self) -> int | None:
        """Fork one worker; return its pipe in the worker, and None in the fork server."""
        asked, descriptors, _, _ = socket.recv_fds(self._parent, 1, 4)
        if not asked:
            os._exit(0)  # the workers notice it as well
        pipe, status_pipe, output, folder = descriptors
        _print_to(output)  # before the fork, whose error belongs in the worker's log
        status = Connection(status_pipe)
        pid = None if status.poll() else os.fork()  # closed: the worker is no longer wanted
        if pid == 0:
            os.setsid()
            os.fchdir(folder)
            os.close(folder)
            for other in (*self._running.values(), *self._ended.values()):
                other.close()
            with status, suppress(OSError):  # if the parent process is gone, so is the worker's pipe
                status.send(os.getpid())
            return pipe
        os.close(pipe)
        os.close(folder)
        if pid is None:
            status.close()
        else:
            self._running[pid] = status
        return None

    def _report_exits(self) -> None:
        for pid in list(self._running):
            # Not reaped: the process id must not be reused while the parent process may want to kill it.
            if end := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                self._ended[pid] = self._running.pop(pid)
                with suppress(OSError):
                    self._ended[pid].send(end.si_status if end.si_code == os.CLD_EXITED else -end.si_status)

    def _reap(self, ready: Sequence[object]) -> None:
        """Reap the workers whose exit code the parent process has received."""
        for pid in [pid for pid, status in self._ended.items() if status in ready]:
            os.waitpid(pid, 0)
            self._ended.pop(pid).close()


@contextmanager
def child_exits() -> Iterator[int]:
    """Yield a file descriptor that becomes readable when a child has ended."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer)
    try:
        yield reader
    finally:  # in a worker
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, before)
        os.close(reader)
        os.close(writer)


def _print_to(descriptor: int) -> None:
    """Redirect this process's output to a file descriptor, and close that."""
    sys.stdout.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


if __name__ == "__main__":
    main(int(sys.argv[1]))
