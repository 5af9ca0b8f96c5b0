"""`besom ui`: MLflow's server with light settings, bound to this machine, and the link that is worth opening."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from rich.console import Console

from besom.errors import BesomError
from besom.tracking.runs import Runs
from besom.tracking.store import Location
from besom.tracking.views import study_link

START_TIMEOUT_S = 120.0
# MLflow's defaults are four workers and a job runner: three times the start-up time, five times the memory.
_LIGHT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


def serve(location: Location, *, host: str, port: int, console: Console) -> int:
    """Run the UI until ctrl-C; print the link to the latest study once the server answers.

    Raises StoreError when nothing is recorded yet, BesomError when the port is in use or the server does not start.
    """
    runs = Runs(location)
    study = runs.latest_study()
    if location.uri.startswith(("http://", "https://")):
        base = location.uri.rstrip("/")
        console.print(study_link(base, study.experiment_id, study.name) if study else base, soft_wrap=True)
        return 0
    _check_free(host, port)
    server = subprocess.Popen(
        [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", location.uri,
            "--default-artifact-root", location.artifacts.as_uri(),
            "--host", host, "--port", str(port), "--workers", "1",
        ],
        env={**os.environ, **_LIGHT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        process_group=0,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, _as_interrupt)
    base = f"http://{host}:{port}"
    try:
        console.print(f"starting the MLflow UI on {location.directory} …", highlight=False)
        _await(server, base)
        link = study_link(base, study.experiment_id, study.name) if study else f"{base}/?workflowType=machine_learning"
        what = f"study {study.name}" if study else "all runs"
        console.print(f"{what}: {link}", highlight=False, soft_wrap=True)
        console.print("ctrl-C ends it", highlight=False)
        server.wait()
        raise BesomError("the MLflow server ended by itself; start it again")
    except KeyboardInterrupt:
        return 0
    finally:
        _end(server)


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BesomError(
                f"{host}:{port}: {error.strerror}; choose another port: besom ui --port {port + 1}"
            ) from error


def _await(server: subprocess.Popen[bytes], base: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            assert server.stderr is not None
            last = server.stderr.read().decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
            raise BesomError(f"the MLflow server did not start: {last[0]}")
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise BesomError(f"the MLflow server did not answer within {START_TIMEOUT_S:.0f} s")


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
