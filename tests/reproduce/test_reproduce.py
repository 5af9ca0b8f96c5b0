"""Real runs and a real sweep in a git repository, whose code changes afterwards."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from besom.cli import main
from besom.tracking.code import DIFF
from besom.tracking.places import settle
from besom.tracking.runs import Runs
from besom.tracking.store import Location
from tests.forking import run
from tests.repositories import git
from tests.running import environment

pytestmark = pytest.mark.slow

NET = """
import os

from torch import nn
from besom.models import SupervisedModule

SCALE = 1.0


class Scaled(nn.Linear):
    def forward(self, x):
        return SCALE * super().forward(x)


class Own(SupervisedModule):
    def __init__(self, *, spec, optimizer, scheduler=None, note=""):
        network = Scaled(spec.in_features, spec.out_features)
        super().__init__(network, spec=spec, optimizer=optimizer, scheduler=scheduler)
"""
SWEEP = """
defaults:
  - train
  - override data: diabetes
  - override model: own
  - override trainer: cpu
  - _self_
objective: val/loss
hydra:
  sweeper:
    n_trials: 2
    bundle: "off"
    params:
      optimizer.lr: tag(log, interval(1e-3, 1e-1))
"""
TOKEN, PASSWORD = "hunter2hunter2", "sesame9"
ADDRESS = f"postgresql://me:{PASSWORD}@db/runs"


@dataclass(frozen=True)
class Project:
    """A repository with a model of its own, and what was recorded in it."""

    folder: Path
    commit: str = ""
    trained: str = ""

    @property
    def location(self) -> Location:
        return Location.of({"uri": None, "directory": self.folder / "mlruns"})

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.location.uri)

    def besom(self, *arguments: str, code: int = 0) -> str:
        """What a command in a process of its own prints."""
        done = self.run(*arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        # What a config held of secrets is not recorded: a run needs it again.
        secrets = {"BESOM_SECRET_MODEL_NOTE": ADDRESS} if arguments[0] == "reproduce" else {}
        return run(
            [sys.executable, "-m", "besom.cli", *arguments], cwd=self.folder, capture_output=True, timeout=300,
            env=environment(FOO_TOKEN=TOKEN, DATABASE_URL=ADDRESS, **secrets),
        )  # fmt: skip

    def runs(self, experiment: str) -> list[Run]:
        found = self.client.get_experiment_by_name(experiment)
        assert found is not None
        return list(self.client.search_runs([found.experiment_id]))

    def write(self, scale: float) -> None:
        (self.folder / "net.py").write_text(NET.replace("SCALE = 1.0", f"SCALE = {scale}"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, _empty_store: Path) -> Project:
    """A sweep with secrets all around it; then a run, with changes that are not committed."""
    folder = tmp_path_factory.mktemp("elsewhere") / "project"
    for name in ("conf/model", "sweeps", "mlruns"):
        (folder / name).mkdir(parents=True)
    (folder / "conf/model/own.yaml").write_text('_target_: net.Own\nnote: ""\n')
    (folder / "sweeps/own.yaml").write_text(SWEEP)
    shutil.copy(_empty_store, folder / "mlruns/mlflow.db")
    settle(folder / "mlruns/mlflow.db")
    project = Project(folder)
    project.write(1.0)
    git("init", "-q", folder=folder)
    git("add", "net.py", "conf", "sweeps", folder=folder)  # mlruns/ is not code, and git was not told to ignore it
    git("commit", "-q", "-m", "one", folder=folder)

    own = ("--config-dir", "conf", "trainer.max_epochs=2", f"model.note='{ADDRESS}'")
    (folder / "notes.txt").write_text(f"the token is {TOKEN}, the store {ADDRESS}, and again {PASSWORD}\n")
    project.besom("sweep", "own", *own)
    (folder / "notes.txt").unlink()
    project.write(2.0)
    said = project.besom("train", "data=diabetes", "model=own", "trainer=cpu", "optimizer.lr=0.5", *own)
    return Project(folder, git("rev-parse", "HEAD", folder=folder), said.split()[-1])


def test_no_secret_of_the_environment_or_the_changes_is_written_anywhere(project: Project):
    files = [path for path in (project.folder / "mlruns").rglob("*") if path.is_file()]
    assert {"mlflow.db", "optuna.db", "sweep.log", "packages.txt", "changes.diff"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert TOKEN.encode() not in content, path
        assert PASSWORD.encode() not in content, path


def test_every_run_of_a_sweep_names_the_code_that_its_study_keeps(project: Project):
    parent, *_ = runs = sorted(project.runs("own"), key=lambda run: "besom.trial" in run.data.tags)
    assert len(runs) == 3
    (code,) = {run.data.tags["besom.code"] for run in runs}
    assert {run.data.tags["besom.git.diff"] for run in runs} == {"recorded with secrets masked"}
    holders = [run for run in runs if project.client.list_artifacts(run.info.run_id, f"code/{code}")]
    assert [run.info.run_id for run in holders] == [parent.info.run_id]
    diff = Runs(project.location).code(Runs(project.location).run(runs[1].info.run_id))[DIFF].decode()
    assert "+the token is ***, the store postgresql://me:***@db/runs, and again ***" in diff
    assert "mlruns" not in diff


def test_a_run_says_what_it_was_trained_with(project: Project):
    run = Runs(project.location).run(project.trained)
    expected = {
        "besom.git.diff": "recorded", "besom.git.dirty": "true", "besom.threads": "1",
        "mlflow.source.git.commit": project.commit,
    }  # fmt: skip
    assert expected.items() <= run.tags.items()
    assert '"deterministic_algorithms": true' in run.tags["besom.determinism"]
    assert run.digest
    files = Runs(project.location).code(run)
    assert b"\ntorch==" in files["packages.txt"]
    assert files[DIFF].count(b"diff --git") == 1
    assert b"+SCALE = 2.0" in files[DIFF]


@pytest.fixture(scope="module")
def verdicts(project: Project) -> dict[str, str]:
    """What `besom reproduce` said: as nothing had changed; after the code did; and in the code of then.

    The first run's tags about it are kept as they were then: other tests train it again.
    """
    same = project.besom("reproduce", project.trained, "--trust", "net")
    project.write(3.0)
    git("commit", "-q", "-a", "-m", "two", folder=project.folder)
    changed = project.besom("reproduce", project.trained, "--here", "--trust", "net", code=1)
    (project.folder / "besom.yaml").write_text("trust: [net, 'recorded:code']\n")
    exact = project.besom("reproduce", project.trained, "--exact")
    (project.folder / "besom.yaml").unlink()
    tags = project.client.get_run(project.trained).data.tags
    return {"same": same, "changed": changed, "exact": exact} | {
        name: tags[f"besom.{name}"] for name in ("reproduced", "reproduced_by")
    }


def test_a_run_is_reproduced_bit_for_bit_and_both_runs_say_so(project: Project, verdicts: dict[str, str]):
    assert re.search(r"REPRODUCED: \d metrics at 3 epochs, bit-exact", verdicts["same"])
    assert "changed:" not in verdicts["same"]
    again = verdicts["same"].split()[-1]
    tags = project.client.get_run(again).data.tags
    assert {"besom.reproduces": project.trained, "besom.verdict": "REPRODUCED"}.items() <= tags.items()
    assert verdicts["reproduced"] == "REPRODUCED"
    assert verdicts["reproduced_by"] == verdicts["exact"].split()[-1]


def test_a_run_whose_code_changed_differs_and_the_cause_and_the_remedy_are_told(
    project: Project, verdicts: dict[str, str]
):
    said = verdicts["changed"]
    assert "first differs at epoch" in said
    assert re.search(
        r"DIFFERS: \d metric\(s\) left the recorded values, \d by more than 0.01 of the recorded one", said
    )
    assert re.search(r"changed: code: commit was \w{10}, is \w{10}\n", said)
    assert "changed: code: uncommitted changes differ, in net.py" in said
    assert f"likely because of: code; besom reproduce {project.trained} --exact takes the code" in said
    assert project.client.get_run(said.split()[-1]).data.tags["besom.verdict"] == "DIFFERS"


def test_in_its_own_code_it_is_reproduced_again(project: Project, verdicts: dict[str, str]):
    said = verdicts["exact"]
    assert "environment: this one, which has the" in said
    assert "with its uncommitted changes" in said
    assert "changed:" not in said
    assert "REPRODUCED: " in said
    again = project.client.get_run(said.split()[-1])
    assert again.data.tags["besom.code"] == project.client.get_run(project.trained).data.tags["besom.code"]
    assert len(git("worktree", "list", folder=project.folder).splitlines()) == 1
    assert list((project.folder / "mlruns/exact/trees").iterdir()) == []
    assert "SCALE = 3.0" in (project.folder / "net.py").read_text()


def test_a_run_whose_changes_held_secrets_cannot_be_had_exactly(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(project.folder)
    trial = next(run for run in project.runs("own") if "besom.trial" in run.data.tags)
    assert main(["reproduce", trial.info.run_id, "--exact", "--trust", "net"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "was trained with uncommitted changes that were recorded with secrets masked; compare" in line


def test_the_worker_looks_at_what_a_trusted_packages_name_leads_to(project: Project, tmp_path: Path):
    config = Runs(project.location).config(project.trained)
    planted = {"_target_": "net.os.mkdir", "path": str(tmp_path / "planted")}
    run = project.client.create_run("0", tags=Runs(project.location).run(project.trained).tags)
    project.client.log_metric(run.info.run_id, "val/loss", 1.0)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, "model": {**config["model"], "note": planted}}))
    project.client.log_artifact(run.info.run_id, str(tmp_path / "config.yaml"))
    done = project.run("reproduce", run.info.run_id, "--trust", "net")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("besom: model.note._target_: net.os.mkdir is posix.mkdir, and")
    assert not (tmp_path / "planted").exists()
