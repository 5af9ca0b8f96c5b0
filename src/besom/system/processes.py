"""Processes that are ended with their children, and the pipes between them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, NoReturn


class GroupLeader(subprocess.Popen[bytes]):
    """A process that leads a session or a process group, and is killed with all of it.

    A trial may have started processes, such as data loader workers, or the user's own. They stay in the session, even
    those with a new process group.
    """

    def kill(self) -> None:
        """Kill the process and its children; no-op once it was waited for."""
        if self.returncode is None:
            kill_with_children(self.pid)


def start(
    module: str, *arguments: str, environment: Mapping[str, str], output: IO[bytes] | None = None, session: bool = True
) -> tuple[GroupLeader, Connection]:
    """Run one of Besom's modules; return its process and this end of a pipe, whose other end is its first argument.

    A ctrl-C in the terminal does not reach it: it leads a new session, or else a process group. `output` takes its
    output; None for this process's own. It imports nothing from the current folder: a user's queue.py or types.py there
    must not shadow the libraries' modules.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = GroupLeader(
            [sys.executable, "-P", "-m", module, str(theirs.fileno()), *arguments],
            pass_fds=[theirs.fileno()],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=session,
            process_group=None if session else 0,
        )
    return process, Connection(ours.detach())


def adopt(descriptor: int) -> Connection:
    """Return the pipe's end that this process was started with.

    No child inherits it, by exec or by fork: the pipe must close when this process dies, not with the last of its
    children, because that is how its death is noticed.
    """
    os.set_inheritable(descriptor, False)
    os.register_at_fork(after_in_child=lambda: os.close(descriptor))
    return Connection(descriptor)


def end_with_children() -> NoReturn:
    """End this process and its children at once, if it was started by `start`."""
    if os.getsid(0) == os.getpid():
        kill_session(os.getpid(), spare=os.getpid())
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def kill_with_children(leader: int) -> None:
    """Kill a leader of a session or process group, with all members."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # no member is left
        os.killpg(leader, signal.SIGKILL)
    kill_session(leader)


def kill_session(leader: int, *, spare: int | None = None) -> None:
    """Kill every process of a session except `spare`; no-op without /proc."""
    killed: set[int] = set()
    # A killed process starts no more: once no new one is found, none is left.
    while new := {pid for pid in session_members(leader) if pid != spare} - killed:
        for pid in new:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= new


def session_members(leader: int) -> Iterator[int]:
    """Yield the ids of a session's living processes."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # "pid (name) state parent group session …", where the name may hold spaces and parentheses
            state, _, _, session = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue  # it has just ended
        if int(session) == leader and state not in "ZX":
            yield int(stat.parent.name)


def how_it_ended(code: int) -> str:
    """Describe an exit code in words; a negative one is a signal."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
