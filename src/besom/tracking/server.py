"""`besom ui`: MLflow's own web app with light settings, on this machine only, and the link that is worth opening.

It runs in this process. `mlflow server` imports MLflow twice more, in a process that starts a process, takes three
times as long to answer, and can be left behind.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn  # before mlflow.server, which checks Host headers only if it finds a server imported
from rich.console import Console

from besom.errors import BesomError
from besom.tracking.hosts import KnownHosts
from besom.tracking.runs import Runs
from besom.tracking.store import Location, connect
from besom.tracking.views import landing_page, runs_link, study_link

_LIGHT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a second server, for evaluating prompts
}
_STOP_WITHIN_S = 2
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def serve(location: Location, *, host: str, port: int, console: Console) -> int:
    """Run the UI until ctrl-C or SIGTERM; print the link to the latest study once the server answers.

    Where the runs are on a tracking server, its link is printed, and that is all.

    Raises StoreError when nothing is recorded yet, BesomError when the port is in use.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if location.uri.startswith(("http://", "https://")):
            _tell(console, landing(location, location.uri.rstrip("/")))
        else:
            _serve_here(location, host, port, console)
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _serve_here(location: Location, host: str, port: int, console: Console) -> None:
    with _bound(host, port) as listener:
        links = landing(location, _url(host, port))
        log = location.directory / "logs" / "ui.log"
        log.parent.mkdir(parents=True, exist_ok=True)

        def ready() -> None:
            _tell(console, links)
            console.print(f"ctrl-C ends it; its log is {log}", highlight=False, markup=False, soft_wrap=True)

        address = str(listener.getsockname()[0])
        if told := warning(address, port):
            console.print(told, style="yellow", highlight=False, markup=False, soft_wrap=True)
        starting = f"starting the MLflow UI on {location.directory} …"
        console.print(starting, highlight=False, markup=False, soft_wrap=True)
        run(lambda: KnownHosts(_app(location), address), listener, log=log, ready=ready)


def warning(address: str, port: int) -> str:
    """What there is to know of an address that others can reach; nothing of one that they cannot."""
    if ip_address(address).is_loopback:
        return ""
    return f"warning: anyone who reaches port {port} of {address} can read, write and delete what is recorded here"


def run(make_app: Callable[[], Any], listener: socket.socket, *, log: Path, ready: Callable[[], None]) -> None:
    """Serve an ASGI app on a bound socket until ctrl-C; call `ready` once it answers. Its log goes to a file.

    Raises BesomError with the last line of the log when it does not start.
    """
    with log.open("w", buffering=1, encoding="utf-8") as lines, redirect_stderr(lines):
        server = _Server(make_app(), ready)
        with suppress(SystemExit):  # how uvicorn says that it did not start
            server.run(sockets=[listener])
    if not server.started:
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["no message"]
        raise BesomError(f"the MLflow UI did not start: {last[0]}; its log is {log}")


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """Take the port before anything slow happens; who comes early waits."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise BesomError(f"--host {host}: {error.strerror}; name an address of this machine") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen()
        except OSError as error:
            port_is_the_problem = error.errno in (errno.EADDRINUSE, errno.EACCES)
            remedy = f"choose another: --port {port + 1}" if port_is_the_problem else "--host takes one of this machine"
            raise BesomError(f"{host}:{port}: {error.strerror}; {remedy}") from error
        yield listener


def _url(host: str, port: int) -> str:
    name = _EVERYWHERE.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def landing(location: Location, base: str) -> dict[str, str]:
    """What is worth opening, the best first, with its URL: the latest study, else the latest run's experiment.

    Raises StoreError when there is no store yet, or it cannot be used.
    """
    study = Runs(location).latest_study()
    if study is not None:
        return {
            f"study {study.name}": study_link(base, study.experiment_id, study.name, charts=True),
            "its runs in a table": study_link(base, study.experiment_id, study.name),
        }
    client = connect(location)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=1)
    return {"all runs": runs_link(base, runs[0].info.experiment_id)} if runs else {"no runs yet": base}


def _tell(console: Console, links: Mapping[str, str]) -> None:
    for what, link in links.items():
        console.print(f"{what}: {link}", highlight=False, markup=False, soft_wrap=True)


def _app(location: Location) -> Any:
    os.environ.update(_LIGHT)
    from mlflow.server import app as pages
    from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR
    from mlflow.server.fastapi_app import app

    os.environ[BACKEND_STORE_URI_ENV_VAR] = location.uri
    os.environ[ARTIFACT_ROOT_ENV_VAR] = location.artifacts.as_uri()
    index = Path(str(pages.static_folder), "index.html").read_text(encoding="utf-8")
    pages.view_functions["serve"] = partial(landing_page, index)
    return app


class _Server(uvicorn.Server):
    """Calls `ready` once it answers."""

    def __init__(self, app: Any, ready: Callable[[], None]) -> None:
        super().__init__(uvicorn.Config(app, access_log=False, timeout_graceful_shutdown=_STOP_WITHIN_S))
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
