"""`besom ui`: MLflow's web app with few services, on this machine only, and a link to the latest study.

It runs in this process. `mlflow server` imports MLflow twice more, in a subprocess of a subprocess, takes three times
as long to answer, and may survive as an orphan; it is the fallback if MLflow's app is not the known one.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn  # before mlflow.server, which checks Host headers only if a server module is imported
from rich.console import Console

from besom.errors import BesomError
from besom.tracking.runs import Runs
from besom.tracking.store import Location, connect
from besom.tracking.ui.hosts import KnownHosts
from besom.tracking.ui.views import landing_page, runs_link, study_link

_LIGHT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a second server, for evaluating prompts
}
_LOG = logging.getLogger(__name__)
_STOP_WITHIN_S = 2
_CHILD_STOPS_WITHIN_S = 10
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def serve(location: Location, *, host: str, port: int, console: Console) -> int:
    """Run the UI until ctrl-C or SIGTERM, and print the link to the latest study once the server answers.

    If the runs are on a tracking server, only print the link to its UI.

    Raises StoreError when nothing is recorded yet, BesomError when the port is in use.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if location.uri.startswith(("http://", "https://")):
            _print_links(console, landing(location, location.uri.rstrip("/")))
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
            _print_links(console, links)
            console.print(f"ctrl-C ends it; its log is {log}", highlight=False, markup=False, soft_wrap=True)

        address = str(listener.getsockname()[0])
        if text := warning(address, port):
            console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)
        starting = f"starting the MLflow UI on {location.directory} …"
        console.print(starting, highlight=False, markup=False, soft_wrap=True)
        try:
            run(lambda: KnownHosts(_app(location), address), listener, log=log, ready=ready)
            return
        except _UnknownApp as error:
            _LOG.debug("MLflow's app is not as it is known here (%s): mlflow server is started", error)
    run_command(_command(location, host, port), _url(host, port), log=log, ready=ready)


def warning(address: str, port: int) -> str:
    """Return a warning for an address that others can reach, or an empty text."""
    if ip_address(address).is_loopback:
        return ""
    return f"warning: anyone who reaches port {port} of {address} can read, write and delete what is recorded here"


def run(make_app: Callable[[], Any], listener: socket.socket, *, log: Path, ready: Callable[[], None]) -> None:
    """Serve an ASGI app on a bound socket until ctrl-C, logging to a file; call `ready` once it answers.

    Raises BesomError with the last line of the log if it does not start.
    """
    with log.open("w", buffering=1, encoding="utf-8") as lines, redirect_stderr(lines):
        server = _Server(make_app(), ready)
        with suppress(SystemExit):  # uvicorn exits if it cannot start
            server.run(sockets=[listener])
    if not server.started:
        raise BesomError(f"the MLflow UI did not start: {_last_line(log)}; its log is {log}")


def run_command(command: Sequence[str], base: str, *, log: Path, ready: Callable[[], None]) -> None:
    """Run a server as a subprocess until ctrl-C, logging to a file; call `ready` once it answers.

    Raises BesomError with the last line of the log if it exits by itself.
    """
    with log.open("w", encoding="utf-8") as lines:
        process = subprocess.Popen(command, stdout=lines, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        while process.poll() is None and not _answers(base):
            time.sleep(0.2)
        if process.poll() is None:
            ready()
        process.wait()
    finally:
        _stop(process)
    raise BesomError(f"the MLflow UI ended: {_last_line(log)}; its log is {log}")


def _command(location: Location, host: str, port: int) -> Sequence[str]:
    os.environ.update(_LIGHT)
    if host in (
        "localhost",
        "127.0.0.1",
    ):  # MLflow's default patterns also match domains that look like private addresses
        names = ("localhost", "127.0.0.1")
        allowed = ",".join([*names, *(f"{name}:{port}" for name in names)])
        os.environ.setdefault("MLFLOW_SERVER_ALLOWED_HOSTS", allowed)
    stores = ("--backend-store-uri", location.uri, "--default-artifact-root", location.artifacts.as_uri())
    return (
        sys.executable, "-m", "mlflow", "server", *stores, "--host", host, "--port", str(port), "--workers", "1",
    )  # fmt: skip


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/health", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children, which share its process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_CHILD_STOPS_WITHIN_S)


def _last_line(log: Path) -> str:
    return (log.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["no message"])[0]


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """Bind the port before anything slow happens: early connections wait."""
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
    """Return links by their labels, the most useful first: to the latest study, or else to the latest run's experiment.

    Raises StoreError if there is no store yet, or it cannot be used.
    """
    study = Runs(location).latest_study()
    if study is not None and not study.viewed:
        return {f"runs of study {study.name}": runs_link(base, study.experiment_id)}
    if study is not None:
        return {
            f"study {study.name}": study_link(base, study.experiment_id, study.name, charts=True),
            "its runs in a table": study_link(base, study.experiment_id, study.name),
        }
    client = connect(location)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=1)
    return {"all runs": runs_link(base, runs[0].info.experiment_id)} if runs else {"no runs yet": base}


def _print_links(console: Console, links: Mapping[str, str]) -> None:
    for what, link in links.items():
        console.print(f"{what}: {link}", highlight=False, markup=False, soft_wrap=True)


def _app(location: Location) -> Any:
    os.environ.update(_LIGHT)
    try:
        from mlflow.server import app as pages
        from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR
        from mlflow.server.fastapi_app import app

        os.environ[BACKEND_STORE_URI_ENV_VAR] = location.uri
        os.environ[ARTIFACT_ROOT_ENV_VAR] = location.artifacts.as_uri()
        index = Path(str(pages.static_folder), "index.html").read_text(encoding="utf-8")
        if "serve" not in pages.view_functions:
            raise _UnknownApp("it has no page 'serve'")
        pages.view_functions["serve"] = partial(landing_page, index)
    except (ImportError, AttributeError, OSError) as error:
        raise _UnknownApp(error) from error
    return app


class _UnknownApp(Exception):
    """MLflow's web app is not the known one; the message is what differs."""


class _Server(uvicorn.Server):
    """A uvicorn server that calls `ready` once it answers."""

    def __init__(self, app: Any, ready: Callable[[], None]) -> None:
        super().__init__(uvicorn.Config(app, access_log=False, timeout_graceful_shutdown=_STOP_WITHIN_S))
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
