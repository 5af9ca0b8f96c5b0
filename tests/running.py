"""`besom` as a process of its own, for tests that want the whole of it."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT

from tests.forking import Forked

BESOM = [str(Path(sys.executable).with_name("besom"))]

OWN_DATA = '''
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Points(pl.LightningDataModule):
    """y = 2 x, through DataLoaders of its own."""

    def __init__(self, rows):
        super().__init__()
        x = torch.linspace(0, 1, rows)[:, None]
        self.points = TensorDataset(x, 2 * x)

    def train_dataloader(self):
        return DataLoader(self.points, batch_size=8)

    def val_dataloader(self):
        return DataLoader(self.points, batch_size=8)
'''
"""The beginning of a module of a user's own."""


@dataclass(frozen=True)
class Ui:
    """A `besom ui` that answers, with the link to what it found, and the one to its runs in a table if there is one."""

    process: Forked[str]
    folder: Path
    port: int
    link: str
    table: str

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str = "/", **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(self.base + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


class Gate:
    """A port that leads to another one while the gate is open; else nobody answers there."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self._leads_to = port
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Let nobody in, and end what is under way."""
        assert self._listener is not None
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections = []

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                ours, _ = listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self._leads_to))
                self._connections += [ours, theirs]
                for source, target in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def free_port() -> int:
    with closing(socket.socket()) as timing:
        timing.bind(("127.0.0.1", 0))
        return int(timing.getsockname()[1])


def environment(**changes: str) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}, **changes}


@contextmanager
def running_ui(folder: Path) -> Iterator[Ui]:
    """Start `besom ui` in a folder and wait for its link."""
    port = free_port()
    process = Forked[str](
        [*BESOM, "ui", "--port", str(port)],
        cwd=folder,
        env=environment(),
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout as lines:
        try:
            said = ""
            while "ctrl-C" not in said:
                line = lines.readline()
                assert line, f"besom ui ended: {said}"
                said += line
            links = re.findall(r"http://\S+", said)
            yield Ui(process, folder, port, link=links[0], table=links[-1])
        finally:
            process.kill()
