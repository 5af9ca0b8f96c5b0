"""The fork server: `python -m besom.workers.fork_server_process FD` imports torch and Lightning once, for all workers.

It trains nothing, and imports nothing of a user's own: that is done in the worker.
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
    """Serve the pipe at a file descriptor that was inherited from the parent; in each worker, do what a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # a third of the time of such imports, for which it finds nothing; a worker enables it
    environment = dict(os.environ)  # to which libraries add
    parent = socket.socket(fileno=descriptor)
    with ending_with(parent):
        import numpy  # noqa: F401

        if has_one_thread():  # else OPENBLAS_NUM_THREADS or its like started others
            import besom.bundle.train  # noqa: F401

            Training().load()
    gc.freeze()  # or the first collection in a worker would write to all that was imported, and so copy it
    safe = has_one_thread()
    pipe = ForkServer(parent).serve()
    if not safe:
        start_afresh(pipe, environment)
    importlib.invalidate_caches()  # what was written since the nursery looked is found
    worker.main(pipe)


def has_one_thread() -> bool:
    """Whether this process can be forked: another thread might hold a lock, which nobody lets go of in the fork."""
    return len(list(Path("/proc/self/task").iterdir())) == 1


@contextmanager
def ending_with(parent: socket.socket) -> Iterator[None]:
    """End this process at once if the parent ends while the block runs.

    A signal tells of it: a thread that listens could hold a lock when the process is forked.
    """
    hung_up = select.poll()
    hung_up.register(parent, 0)  # a hang-up is told of unasked

    def look(*_: object) -> None:
        if hung_up.poll(0):
            end_with_children()

    before = signal.signal(signal.SIGIO, look)
    signal.siginterrupt(signal.SIGIO, False)  # a request is a signal as well: whatever a library reads, it reads on
    fcntl.fcntl(parent, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(parent, fcntl.F_SETFL, os.O_ASYNC)
    look()
    yield
    fcntl.fcntl(parent, fcntl.F_SETFL, 0)
    signal.signal(signal.SIGIO, before)


def start_afresh(pipe: int, environment: Mapping[str, str]) -> NoReturn:
    """Be a worker that imports for itself, with what the nursery was started with."""
    os.set_inheritable(pipe, True)
    os.execve(sys.executable, [sys.executable, "-P", "-m", "besom.workers.worker", str(pipe)], dict(environment))


class ForkServer:
    """Forks workers for the parent, and tells it how each of them ended."""

    def __init__(self, parent: socket.socket) -> None:
        self._parent = parent
        self._running: dict[int, Connection] = {}
        self._ended: dict[int, Connection] = {}

    def serve(self) -> int:
        """Fork a worker for each request; end the process with the parent. Returns in each worker, with its pipe."""
        print_to(os.open(os.devnull, os.O_WRONLY))
        with self._parent, deaths() as death:
            while True:
                ready = wait([self._parent, death, *self._ended.values()])
                if death in ready:
                    os.read(death, 4096)
                    self._tell_ends()
                self._reap([news for news in ready if isinstance(news, Connection)])
                if self._parent in ready and (pipe := self._fork()) is not None:
                    return pipe

    def _fork(self) -> int | None:
        """Fork one worker; return its pipe there, and None here."""
        asked, descriptors, _, _ = socket.recv_fds(self._parent, 1, 4)
        if not asked:
            os._exit(0)  # the workers have noticed as well
        pipe, teller, output, folder = descriptors
        news = Connection(teller)
        if news.poll():  # closed: nobody waits for this worker any more
            for descriptor in (pipe, output, folder):
                os.close(descriptor)
            return None
        print_to(output)
        if pid := os.fork():
            self._running[pid] = news
            os.close(pipe)
            os.close(folder)
            print_to(os.open(os.devnull, os.O_WRONLY))
            return None
        os.setsid()
        os.fchdir(folder)
        os.close(folder)
        with news, suppress(OSError):  # should nobody listen, the pipe is closed as well
            news.send(os.getpid())
        self._forget()
        return pipe

    def _tell_ends(self) -> None:
        for pid in list(self._running):
            # Not reaped: the number must not be given to another process while the parent may want to kill this one.
            if end := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                self._ended[pid] = self._running.pop(pid)
                with suppress(OSError):
                    self._ended[pid].send(end.si_status if end.si_code == os.CLD_EXITED else -end.si_status)

    def _reap(self, heard: Sequence[Connection]) -> None:
        """Let go of those of whose end the parent has heard."""
        for pid in [pid for pid, news in self._ended.items() if news in heard]:
            os.waitpid(pid, 0)
            self._ended.pop(pid).close()

    def _forget(self) -> None:
        """Close in a worker what is the other workers'."""
        for news in (*self._running.values(), *self._ended.values()):
            news.close()


@contextmanager
def deaths() -> Iterator[int]:
    """Give a file descriptor that can be read when a child has ended."""
    told, teller = os.pipe()
    os.set_blocking(teller, False)
    before = signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(teller)
    try:
        yield told
    finally:  # in a worker
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, before)
        os.close(told)
        os.close(teller)


def print_to(descriptor: int) -> None:
    """Let everything that this process prints go to a file, and close the descriptor."""
    sys.stdout.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


if __name__ == "__main__":
    main(int(sys.argv[1]))
