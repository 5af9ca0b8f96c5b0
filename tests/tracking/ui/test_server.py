"""`besom ui` as a process, on a store that has a study in it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from omegaconf import DictConfig
from rich.console import Console

from besom.cli import main
from besom.config.extras.logged import Log, Point
from besom.errors import BesomError, Interrupted, StoreError
from besom.reports.read.finalists import finalist_runs
from besom.sweep.single import SingleRun, run_single
from besom.system.interrupts import Stop
from besom.tracking.places import settle
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.registry import fetch, register
from besom.tracking.runs import Runs
from besom.tracking.store import Location, connect
from besom.tracking.study_run import Status
from besom.tracking.ui.server import landing, run, run_command, warning
from besom.tracking.ui.views import saved_view, study_view, view_key
from besom.workers.messages import Assignment, Finished, Message, TrialResult
from tests import forking
from tests.conftest import App
from tests.fakes import FakeLauncher, Play, finishing, reported, started
from tests.running import BESOM, Gate, Ui, environment, free_port, running_ui
from tests.sweep.commands import SWEEP, Command

pytestmark = pytest.mark.slow


def record_study(location: Location, name: str = "digits", *, views: bool = True) -> None:
    view = study_view(
        study=name, parent_run_id="abc", objective="val/acc", direction="maximize", examples=[{"optimizer.lr": 0.1}]
    )
    with Recorder(location, name, views=views) as recorder:
        recorder.open_study(name, token=name, tags={"besom.kind": "study", "besom.study": name}, note="")
        recorder.view(view_key(name), saved_view(name, view))
        recorder.close_study(Status.FINISHED, {}, {})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, _empty_store: Path) -> Path:
    """A folder whose mlruns/ holds a study."""
    folder = tmp_path_factory.mktemp("recorded")
    location = Location.of({"uri": None, "directory": folder / "mlruns"})
    location.directory.mkdir()
    shutil.copy(_empty_store, location.database)
    settle(location.database)
    record_study(location)
    return folder


@pytest.fixture(scope="module")
def served(recorded: Path) -> Iterator[Ui]:
    with running_ui(recorded) as found:
        yield found


def test_the_link_leads_to_the_latest_study(served: Ui):
    assert re.fullmatch(rf"{served.base}/#/experiments/\d+/runs\?.*viewStateShareKey=besom-digits", served.table)
    assert served.link == f"{served.table}&compareRunsMode=CHART"
    status, page = served.get()
    assert status == 200
    assert "main." in page


def test_the_page_brings_the_browser_into_model_training_mode(served: Ui):
    assert '"mlflow.workflowType_v1": "machine_learning"' in served.get()[1]


def test_the_view_of_the_link_is_where_the_page_looks_for_it(served: Ui):
    experiment = re.search(r"experiments/(\d+)", served.link)
    assert experiment is not None
    _, text = served.get(f"/ajax-api/2.0/mlflow/experiments/get?experiment_id={experiment[1]}")
    tags = {tag["key"]: tag["value"] for tag in json.loads(text)["experiment"]["tags"]}
    state = json.loads(json.loads(tags["mlflow.sharedViewState.besom-digits"])["state"])
    assert state["orderByKey"] == "metrics.`best/val/acc`"


@pytest.mark.parametrize("path", ["/", "/ajax-api/2.0/mlflow/experiments/get?experiment_id=0", "/version"])
@pytest.mark.parametrize("host", ["example.com", "10.evil.example", "192.168.0.1.evil.example"])
def test_a_foreign_host_header_is_refused(served: Ui, path: str, host: str):
    assert served.get(path, Host=host)[0] == 403


def test_it_listens_on_this_machine_only(served: Ui):
    others = {address[4][0] for address in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in others - {"127.0.0.1"}:
        with pytest.raises(OSError):
            socket.create_connection((str(address), served.port), timeout=5).close()


def test_who_lets_others_in_is_told_what_they_can_do():
    assert warning("127.0.0.1", 5000) == warning("::1", 5000) == ""
    assert "anyone who reaches port 5000 of 0.0.0.0 can read, write and delete" in warning("0.0.0.0", 5000)


def test_telemetry_is_off(served: Ui):
    assert json.loads(served.get("/ajax-api/3.0/mlflow/ui-telemetry")[1])["disable_ui_telemetry"] is True


def test_what_the_server_says_goes_to_a_file(served: Ui):
    assert "startup complete" in (served.folder / "mlruns" / "logs" / "ui.log").read_text()


def test_it_is_one_process(served: Ui):
    children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children")
    if not children.exists():
        pytest.skip("this kernel does not list the children of a process")
    assert children.read_text() == ""


def test_runs_are_recorded_on_a_tracking_server_without_a_word_and_read_back(
    served: Ui, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    location = Location.of({"uri": served.base, "directory": str(tmp_path)})
    (tmp_path / "left").mkdir()
    card = RunCard(name="far", config={"model": {"width": 3}}, tags={}, directory=tmp_path / "left")
    with Recorder(location, "far") as recorder:
        recorder.start(0, card, {})
        recorder.report(0, 1, {"val/loss": 0.5}, 0.0)
        recorder.finish(0, Status.FINISHED)
        run_id = recorder.run_id(0)
    found = Runs(location).run(run_id)
    assert (found.status, found.config, found.history) == ("FINISHED", card.config, {1: {"val/loss": 0.5}})
    assert capfd.readouterr().out == ""


def test_what_a_tracking_server_that_is_away_has_missed_is_kept_and_recorded_by_the_next_start(
    served: Ui, tmp_path: Path
):
    gate, told = Gate(served.port), list[str]()
    location = Location.of({"uri": f"http://127.0.0.1:{gate.port}", "directory": tmp_path / "mlruns"})

    def card(trial: int) -> RunCard:
        directory = tmp_path / f"left-{trial}"
        directory.mkdir()
        (directory / "model.json").write_text(str(trial), encoding="utf-8")
        tags = {"besom.trial": str(trial)}
        return RunCard(name="gone", config={"model": {"width": trial}}, tags=tags, directory=directory, began_s=1000.0)

    gate.open()
    with Recorder(location, "gone") as recorder:
        recorder.open_study("gone", token="gone", tags={}, note="")
        recorder.start(0, card(0), {})
        first = recorder.run_id(0)
        gate.close()
        recorder.start(1, card(1), {})
        recorder.start(2, card(2), {})
        recorder.hurry()  # from here on an unreachable server is no failure
        for trial in range(3):
            points = (Point(step=9, metrics={"loss": 1.0}, time_s=1000.5),)
            recorder.log(trial, Log(points=points, params={"hidden": "8"}, tags={"mood": "good"}))
            recorder.report(trial, 1, {"val/loss": 0.5 + trial, "loss": 1.0}, 1001.0)
        for trial in range(2):
            tags = {"besom.state": "COMPLETE"}
            recorder.finish(trial, Status.FINISHED, metrics={"best/val/loss": 0.5}, tags=tags, ended_s=1002.0)
        recorder.finish(2, Status.KILLED, tags={"besom.state": "INTERRUPTED"}, last=False)
        stop = Stop()
        stop.asked = True
        kept = recorder.wait(stop, told.append)
        assert (list(kept.trials), recorder.ended(), recorder.is_away) == ([0, 1], [], True)
        assert recorder.run_ids() == {0: first}  # without waiting
    gate.open()
    with Recorder(location, "gone") as recorder:
        parent = recorder.open_study("gone", token="gone", tags={}, note="")
        assert recorder.record_kept() == [0, 1]
        assert recorder.ends([0, 1, 2]).keys() == {0, 1}
        runs = recorder.run_ids()
        assert recorder.record_kept() == []
    gate.close()
    here = Location.of({"uri": served.base, "directory": tmp_path / "mlruns"})
    assert runs[0] == first
    for trial, run_id in runs.items():
        found = Runs(here).run(run_id)
        assert (found.status, found.config) == ("FINISHED", {"model": {"width": trial}})
        assert found.history == {1: {"val/loss": 0.5 + trial, "best/val/loss": 0.5}}
        assert found.tags["mlflow.parentRunId"] == parent
        assert (found.tags["mood"], found.tags["besom.by_step"]) == ("good", '["loss"]')
        Runs(here).download(run_id, str(tmp_path))
        assert (tmp_path / "model.json").read_text(encoding="utf-8") == str(trial)
    info = connect(here).get_run(runs[1]).info
    assert (info.start_time, info.end_time) == (1_000_000, 1_002_000)
    assert not (location.directory / "unrecorded").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-C", "SIGTERM"])
def test_a_run_that_is_stopped_while_its_server_is_away_is_kept_and_recorded_by_the_next(
    served: Ui, tmp_path: Path, compose: Callable[..., DictConfig], number: signal.Signals
):
    gate, output = Gate(served.port), io.StringIO()
    location = Location.of({"uri": f"http://127.0.0.1:{gate.port}", "directory": tmp_path / "mlruns"})

    def train(play: Play) -> SingleRun:
        return run_single(
            compose(f"tracking.experiment=stopped {number.name}", "optimizer.lr=0.25"), name="one", tags={},
            location=location, console=Console(file=output, width=200), launcher=FakeLauncher(play),
        )  # fmt: skip

    client = connect(Location.of({"uri": served.base, "directory": tmp_path / "mlruns"}))

    def runs() -> list[Run]:
        found = client.get_experiment_by_name(f"stopped {number.name}")
        return list(client.search_runs([found.experiment_id])) if found else []

    def stopped(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        yield reported(assignment.trial, 1, val_loss=0.5)
        while not any(run.data.params for run in runs()):  # the reply to its creation has arrived, too
            time.sleep(0.05)
        gate.close()
        os.kill(os.getpid(), number)
        threading.Event().wait(20)

    gate.open()
    with pytest.raises(Interrupted):
        train(stopped)
    assert "the run is not recorded yet, since the tracking server is away; the next" in output.getvalue()
    gate.open()
    train(finishing)
    gate.close()
    assert "recorded 1 run(s) of before" in output.getvalue()
    killed, finished = sorted(runs(), key=lambda run: run.info.start_time)
    assert (killed.info.status, finished.info.status) == ("KILLED", "FINISHED")
    assert killed.data.metrics["val/loss"] == 0.5


def test_finalists_that_a_server_missed_are_recorded_by_the_next_start_and_not_trained_again(
    served: Ui,
    tmp_path: Path,
    load_app: Callable[..., App],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(SWEEP, encoding="utf-8")
    command = Command(tmp_path, Location.of({"uri": None, "directory": tmp_path / "mlruns"}), load_app)
    gate, tested = Gate(served.port), list[int]()
    there = (f"tracking.uri=http://127.0.0.1:{gate.port}", "model=logistic_regression", "hydra.sweeper.n_jobs=1",
             "hydra.sweeper.n_trials=1", "hydra.sweeper.finalists={top:1,seeds:2}")  # fmt: skip

    def play(assignment: Assignment) -> Iterator[Message]:
        yield started(assignment.trial)
        if assignment.config["test"]:
            tested.append(assignment.config["seed"])
            if len(tested) == 1:
                gate.close()
            else:
                os.kill(os.getpid(), signal.SIGTERM)
        result = TrialResult(values=(0.5,), best_epoch=1, summary={"test/acc": 0.5}, duration_s=0.5)
        yield Finished(trial=assignment.trial, result=result)

    gate.open()
    with pytest.raises(Interrupted):
        command(play, *there)
    assert "since the tracking server is away; the same command records what is kept" in capsys.readouterr().out
    gate.open()
    command(play, *there)
    gate.close()
    assert "which the tracking server had missed" in capsys.readouterr().out
    found = finalist_runs(command.study("own").user_attrs)
    assert sorted(run.seed for run in found if run.run_id) == sorted(set(tested))
    assert len(set(tested)) == 2
    assert tested.count(tested[0]) == 1  # it was over when the server became unreachable


def test_a_model_is_registered_on_a_tracking_server_and_fetched_back_by_its_alias(served: Ui, tmp_path: Path):
    location = Location.of({"uri": served.base, "directory": tmp_path / "mlruns"})
    spec = {"name": "one", "task": "regression", "classes": [], "in_features": 1, "out_features": 1}
    description = {"spec": spec, "features": ["a"], "inputs": None}
    with Recorder(location, "on a server") as recorder:
        card = RunCard(name="one", config={"model": {}}, tags={"besom.version": "0.1.0"}, directory=tmp_path / "run")
        card.directory.mkdir()
        recorder.start(0, card, {})
        (card.directory / "model.json").write_text(json.dumps(description), encoding="utf-8")
        (card.directory / "model.safetensors").write_bytes(b"weights")
        recorder.finish(0, Status.FINISHED)
        run_id = recorder.run_id(0)
    assert [register(location, run_id, "remote") for _ in range(2)] == ["1", "1"]
    (tmp_path / "copy").mkdir()
    assert fetch(location, "models:/remote@champion", tmp_path / "copy").info.run_id == run_id
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == b"weights"


def test_of_a_tracking_server_the_links_are_printed(served: Ui, tmp_path: Path):
    done = forking.run(
        [*BESOM, "ui"],
        cwd=tmp_path,
        env=environment(MLFLOW_TRACKING_URI=f"{served.base}/"),
        capture_output=True,
        timeout=120,
        check=True,
    )
    # Of whichever study of this file's tests is the latest by now.
    found = re.fullmatch(r"study (\w+): (\S+)\nits runs in a table: (\S+)\n", done.stdout)
    assert found is not None
    assert re.fullmatch(rf"{served.base}/#/experiments/\d+/runs\?.*viewStateShareKey={view_key(found[1])}", found[3])
    assert found[2] == f"{found[3]}&compareRunsMode=CHART"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-C", "SIGTERM"])
def test_a_signal_ends_it_and_frees_the_port(recorded: Path, number: signal.Signals):
    with running_ui(recorded) as found:
        with urllib.request.urlopen(found.base, timeout=30) as response:  # an open connection does not hold it up
            found.process.send_signal(number)
            assert found.process.wait(timeout=30) == 0
            response.close()
        with closing(socket.socket()) as timing:
            assert timing.connect_ex(("127.0.0.1", found.port)) != 0


def test_a_port_in_use_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert main(["ui", "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"127.0.0.1:{port}" in line
    assert f"--port {port + 1}" in line


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_of_another_machine_is_one_line(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["ui", "--host", host, "--port", str(free_port())]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert host in line
    assert "--host" in line


def test_nothing_recorded_yet_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["ui", "--port", str(free_port())]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "besom train" in line
    assert list(tmp_path.iterdir()) == []


def test_without_a_store_there_is_nothing_to_land_on(tmp_path: Path):
    with pytest.raises(StoreError, match="nothing recorded"):
        landing(Location.of({"uri": None, "directory": tmp_path / "mlruns"}), "http://ui")


def test_without_a_study_the_link_leads_to_the_latest_run(location: Location, tmp_path: Path):
    assert landing(location, "http://ui") == {"no runs yet": "http://ui"}
    for experiment in ("train", "later"):
        directory = tmp_path / experiment
        directory.mkdir()
        with Recorder(location, experiment) as recorder:
            recorder.start(0, RunCard(name="one", config={}, tags={}, directory=directory), {})
            recorder.finish(0, Status.FINISHED)
    assert landing(location, "http://ui") == {
        "all runs": "http://ui/#/experiments/2/runs?workflowType=machine_learning"
    }


def test_without_views_the_link_leads_to_the_runs_of_the_study(location: Location):
    record_study(location, views=False)
    assert landing(location, "http://ui") == {
        "runs of study digits": "http://ui/#/experiments/1/runs?workflowType=machine_learning"
    }


Receive = Callable[[], Any]
Send = Callable[[Mapping[str, Any]], Any]


async def startup_deaths(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is gone"})


def test_a_server_that_does_not_start_shows_where_its_log_is(tmp_path: Path):
    log, called = tmp_path / "ui.log", []
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        with pytest.raises(BesomError, match=re.escape(str(log))):
            run(lambda: startup_deaths, listener, log=log, ready=lambda: called.append(True))
    assert "the database is gone" in log.read_text()
    assert not called


ANSWERING = """
import http.server, subprocess, sys

child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()


http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def is_over(pid: int) -> bool:
    """Return whether a process that was killed ends; its new parent may take a while to reap it."""
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_a_server_of_its_own_process_ends_with_all_that_it_has_started(tmp_path: Path):
    port, log, called = free_port(), tmp_path / "ui.log", []

    def ctrl_c() -> None:
        called.append(True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_command([sys.executable, "-c", ANSWERING, str(port)], f"http://127.0.0.1:{port}", log=log, ready=ctrl_c)
    assert called
    assert is_over(int(log.read_text().split()[0]))


def test_a_server_of_its_own_process_that_ends_by_itself_shows_where_its_log_is(tmp_path: Path):
    log, dying = tmp_path / "ui.log", [sys.executable, "-c", "raise SystemExit('no such option')"]
    with pytest.raises(BesomError, match=f"ended: no such option; its log is {re.escape(str(log))}"):
        run_command(dying, f"http://127.0.0.1:{free_port()}", log=log, ready=lambda: None)
