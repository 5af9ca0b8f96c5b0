"""The names by which a server may be asked for: a page of somebody else's, whose name leads here, reads nothing."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Asgi = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d+)?")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class KnownHosts:
    """Hands on what is asked of this machine by its address, and refuses the rest.

    A server on a loopback `address` answers to the loopback's names alone. Any other may be asked for by an address,
    which is no name that could lead elsewhere, or by this machine's name. MLflow compares patterns: `10.*` lets
    `10.evil.example` pass. Whoever sets MLFLOW_SERVER_ALLOWED_HOSTS has decided.
    """

    def __init__(self, app: Asgi, address: str) -> None:
        self._app = app
        self._loopback = ipaddress.ip_address(address).is_loopback
        self._names = {*_LOOPBACK, _written(address)}
        if not self._loopback:
            self._names.add(socket.gethostname().lower())

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        asked = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name.lower() == b"host"]
        if scope["type"] == "lifespan" or self._knows(asked):
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        told = f"besom ui answers to {', '.join(sorted(self._names))}; MLFLOW_SERVER_ALLOWED_HOSTS names others\n"
        await send({"type": "http.response.body", "body": told.encode()})

    def _knows(self, asked: Iterable[str]) -> bool:
        if os.environ.get("MLFLOW_SERVER_ALLOWED_HOSTS"):
            return True
        names = [found["name"].lower() if (found := _HOST.fullmatch(one)) else "" for one in asked]
        return bool(names) and all(name in self._names or (not self._loopback and _is_address(name)) for name in names)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _written(address: str) -> str:
    return f"[{address}]" if ":" in address else address
