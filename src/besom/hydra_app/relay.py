"""Calls from the child processes of a job to its worker, such as those of ranks that Lightning's ddp_spawn starts.

A child process finds the socket of the worker in its environment. Only JSON is exchanged: nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from besom.errors import TrialPruned

_VARIABLE = "BESOM_REPORT_TO"

Answer = Callable[[str, Sequence[Any]], None]
"""Handles a call by its name and arguments; may raise TrialPruned or ValueError, which the caller raises as well."""


def serve(answer: Answer) -> None:
    """Answer the calls of this process's children from now on, in threads."""
    name, key = f"besom-{secrets.token_hex(8)}", secrets.token_hex(32)
    listener = Listener(f"\0{name}", family="AF_UNIX", authkey=bytes.fromhex(key))
    os.environ[_VARIABLE] = f"{os.getpid()} {name} {key}"
    threading.Thread(target=_accept, args=(listener, answer), daemon=True, name="besom reports").start()


def _accept(listener: Listener, answer: Answer) -> None:
    while True:
        with suppress(Exception):  # a stranger, or a process that has ended meanwhile
            serving = partial(_serve, listener.accept(), answer)
            threading.Thread(target=serving, daemon=True, name="besom reports of a process").start()


def _serve(connection: Connection, answer: Answer) -> None:
    with connection, suppress(EOFError, OSError):
        while True:
            name, arguments = json.loads(connection.recv_bytes())
            raised = ""
            try:
                answer(name, arguments)
            except (TrialPruned, ValueError) as error:
                raised = str(error) or type(error).__name__
            connection.send_bytes(json.dumps(raised).encode())


class Relay:
    """The connection of a child process to the worker of its job. Calls raise what the worker's answer raised."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._calling = threading.Lock()

    @classmethod
    def to_worker(cls) -> Relay | None:
        """Return the relay of this process, None if no worker's job has started it."""
        process, _, rest = os.environ.get(_VARIABLE, "").partition(" ")
        name, _, key = rest.partition(" ")
        if not key or process == str(os.getpid()):
            return None
        try:
            return cls(Client(f"\0{name}", family="AF_UNIX", authkey=bytes.fromhex(key)))
        except OSError:  # the worker is gone
            return None

    def call(self, name: str, *arguments: Any) -> None:
        """Let the worker do something. Raises TrialPruned, or ValueError."""
        try:
            with self._calling:
                self._connection.send_bytes(json.dumps([name, arguments]).encode())
                raised = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):  # the worker is gone, and this process ends soon
            return
        if raised == TrialPruned.__name__:
            raise TrialPruned
        if raised:
            raise ValueError(raised)
