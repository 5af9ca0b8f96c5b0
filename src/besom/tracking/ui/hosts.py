"""Check of the Host header: protects a local server from web pages whose domain resolves to it (DNS rebinding)."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
_Asgi = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d+)?")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class KnownHosts:
    """ASGI middleware that passes on requests whose Host header is a name of this machine, and refuses the others.

    On a loopback `address`, only the loopback names are accepted; on any other address, all IP addresses, which no
    domain can imitate, and the name of this machine. MLflow's own check compares patterns: `10.*` matches
    `10.evil.example`. If MLFLOW_SERVER_ALLOWED_HOSTS is set, that check decides.
    """

    def __init__(self, app: _Asgi, address: str) -> None:
        self._app = app
        self._loopback = ipaddress.ip_address(address).is_loopback
        self._names = {*_LOOPBACK, _as_host(address)}
        if not self._loopback:
            self._names.add(socket.gethostname().lower())

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        hosts = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name.lower() == b"host"]
        if scope["type"] == "lifespan" or self._accepts(hosts):
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        text = f"besom ui answers to {', '.join(sorted(self._names))}; MLFLOW_SERVER_ALLOWED_HOSTS names others\n"
        await send({"type": "http.response.body", "body": text.encode()})

    def _accepts(self, hosts: Iterable[str]) -> bool:
        if os.environ.get("MLFLOW_SERVER_ALLOWED_HOSTS"):
            return True
        names = [match["name"].lower() if (match := _HOST.fullmatch(host)) else "" for host in hosts]
        return bool(names) and all(name in self._names or (not self._loopback and _is_address(name)) for name in names)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _as_host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
