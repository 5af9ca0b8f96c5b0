"""The Host headers that a server accepts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, MutableMapping
from typing import Any

import pytest

from besom.tracking.ui.hosts import KnownHosts, Receive, Send


async def answering(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def status(address: str, *hosts: str, kind: str = "http") -> int:
    said: list[Mapping[str, Any]] = []

    async def send(message: Mapping[str, Any]) -> None:
        said.append(message)

    async def receive() -> None:
        raise AssertionError("nothing is read of what is refused")

    scope = {"type": kind, "headers": [(b"host", host.encode()) for host in hosts]}
    asyncio.run(KnownHosts(answering, address)(scope, receive, send))
    return int(said[0]["status"])


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_SERVER_ALLOWED_HOSTS", raising=False)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:5000", "127.0.0.1:5000", "[::1]:5000", "[::1]"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0"])
def test_the_names_of_the_loopback_are_answered(address: str, host: str) -> None:
    assert status(address, host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "10.evil.example", "192.168.0.1.evil.example", "172.16.evil.example:5000", "localhost.evil.example",
        "evil.example", "localhost:5000.evil.example", "127.0.0.1@evil.example", "fc00:evil.example",
        "[::1].evil.example", "localhost:", "", "::1", "127.0.0.1, evil.example",
    ],
)  # fmt: skip
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_other_names_are_refused(address: str, host: str) -> None:
    assert status(address, host) == 403
    assert status(address, "localhost", host) == 403
    assert status(address, host, kind="websocket") == 403


def test_a_request_without_a_host_is_refused() -> None:
    assert status("127.0.0.1") == 403


@pytest.mark.parametrize("host", ["192.168.0.1:5000", "10.0.0.2", "[fd00::1]:80", socket.gethostname()])
def test_addresses_and_this_machines_name_are_answered_where_it_listens_for_others(host: str) -> None:
    assert status("0.0.0.0", host) == 200
    assert status("127.0.0.1", host) == 403


def test_who_names_hosts_is_left_to_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "hub.example.org")
    assert status("127.0.0.1", "hub.example.org") == 200
