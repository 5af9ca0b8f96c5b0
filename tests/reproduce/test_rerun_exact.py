"""`--exact` without training: the restored code, and a fake Python that prints its arguments."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from omegaconf import DictConfig
from rich.console import Console

from besom.config.checks import recordable
from besom.config.targets.trust import RECORDED_CODE, Trust
from besom.errors import BesomError, ConfigError, Interrupted
from besom.reproduce.rerun_exact import reproduce_exactly
from besom.reproduce.working_tree import Code, working_tree
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.runs import RecordedRun
from besom.tracking.sources import SourceEntry
from besom.tracking.store import Location
from besom.tracking.study_run import Status
from tests.fakes import ABOUT
from tests.repositories import commit, git

TELLING = """#!/bin/sh
echo "$@" > told
pwd >> told
git rev-parse --show-toplevel >> told
cat "$GIT_WORK_TREE/net.py" "$GIT_WORK_TREE/new.py" >> told
echo "$BESOM_TRUST" >> told
echo "$PYTHONPATH" >> told
exit 7
"""
TRUST = Trust(names=("net", RECORDED_CODE))
WAITING = """#!/bin/sh
trap 'exit 130' TERM
touch told
while :; do sleep 0.05; done
"""


def python_that(script: str) -> Callable[..., None]:
    """Makes an environment whose Python is a shell script."""

    def make(python: Path, wanted: str, place: Path, pip_args: Sequence[str]) -> None:
        (place / "bin").mkdir(parents=True)
        (place / "bin/python").write_text(script)
        (place / "bin/python").chmod(0o755)

    return make


@pytest.fixture
def project(location: Location, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder around the store as a repository, with a package in src/ and changes that are not committed."""
    folder = location.directory.parent
    commit(folder, net__py="one\n", __gitignore="mlruns/\n")
    (folder / "src").mkdir()
    (folder / "src/package.py").write_text("one\n")
    git("add", "src", folder=folder)
    git("commit", "-q", "-m", "two", folder=folder)
    (folder / "net.py").write_text("two\n")
    (folder / "new.py").write_text("three\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run_id(project: Path, location: Location, compose: Callable[..., DictConfig]) -> str:
    """A run of this code, which was recorded with a package that is not here; the code has changed since."""
    scratch = project / "mlruns/scratch"
    scratch.mkdir()
    with Recorder(location, "digits") as recorder:
        recorder.keep_code()
        card = RunCard(name="one", config=recordable(compose()), tags={}, directory=scratch)
        recorder.start(0, card, ABOUT)
        recorder.finish(0, Status.FINISHED)
        run_id = recorder.run_id(0)
    run = MlflowClient(location.uri).get_run(run_id)
    code = Path(urlsplit(run.info.artifact_uri).path) / "code" / run.data.tags["besom.code"]
    with (code / "packages.txt").open("a") as listed:
        listed.write("not-here==1.0\n")
    git("checkout", "-q", "net.py", folder=project)
    (project / "new.py").unlink()
    return run_id


def trees(project: Path) -> list[str]:
    """Return the remaining working trees, as git lists them and in the folder."""
    booked = git("worktree", "list", "--porcelain", folder=project).split("\n\n")[1:]
    return [*booked, *(path.name for path in (project / "mlruns/exact/trees").glob("*"))]


def test_besom_runs_in_the_code_of_then_with_the_packages_of_then(project: Path, location: Location, run_id: str):
    console = Console(file=io.StringIO(), width=500)
    ended = reproduce_exactly(run_id, location, console, tolerance=0.5, trust=TRUST, make=python_that(TELLING))
    assert ended == 7
    command, folder, root, *files, path = (project / "told").read_text().splitlines()
    assert command == f"-m besom.cli reproduce {run_id} --tolerance 0.5"
    assert folder == str(project)  # data and store are those of the caller
    assert Path(root).parent == project / "mlruns/exact/trees"
    assert files == ["two", "three", "net,recorded:code"]
    assert {f"{root}/src", root} <= set(path.split(os.pathsep))
    assert str(project) not in path.split(os.pathsep)
    assert trees(project) == []
    assert git("status", "--porcelain", folder=project) == "?? told"


@pytest.mark.parametrize(
    ("changes", "told"),
    [(True, "uncommitted changes of run '.*' .* are to be run"), (False, "packages of run .* to be installed")],
)
def test_changes_and_packages_that_came_with_the_record_are_taken_from_who_is_trusted(
    project: Path, location: Location, run_id: str, changes: bool, told: str
):
    if not changes:
        MlflowClient(location.uri).set_tag(run_id, "besom.git.dirty", "false")
        next(location.directory.rglob("changes.diff")).unlink()
    with pytest.raises(ConfigError, match=rf"--exact: the {told}, .* if you trust it: --trust recorded:code, or"):
        reproduce_exactly(run_id, location, Console(file=io.StringIO()), make=python_that(TELLING))
    assert not (project / "told").exists()
    assert trees(project) == []


def test_ctrl_c_ends_it_and_clears_the_code_away(project: Path, location: Location, run_id: str):
    def press() -> None:
        while not (project / "told").exists():
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(Interrupted):
        reproduce_exactly(run_id, location, Console(file=io.StringIO()), trust=TRUST, make=python_that(WAITING))
    assert trees(project) == []


def test_what_a_process_that_was_killed_left_is_removed_the_next_time(project: Path):
    code = Code(run_id="x", commit=git("rev-parse", "HEAD", folder=project), diff=b"")
    folder = project / "mlruns/exact/trees"
    left = folder / "abc-1"
    git("worktree", "add", "-q", "--detach", str(left), folder=project)
    (folder / "abc-1.lock").touch()
    with working_tree(code, folder) as tree:
        assert not left.exists()
        assert (tree.folder / "net.py").read_text() == "one\n"
    assert trees(project) == []


def test_a_file_that_was_edited_before_a_worker_imported_it_is_in_the_tree_as_it_was_then(project: Path):
    commit = git("rev-parse", "HEAD", folder=project)

    def code(content: bytes | None, place: str = "net.py") -> Code:
        net = SourceEntry(digest=sha256(b"edited\n").hexdigest(), name="net.py", place=place)
        return Code(run_id="x", commit=commit, diff=b"", sources=((net, content),))

    with working_tree(code(b"edited\n"), project / "mlruns/exact/trees") as tree:
        assert (tree.folder / "net.py").read_text() == "edited\n"
    for lost in (code(None), code(b"masked\n"), code(b"edited\n", place="../../../../net.py")):
        with (
            pytest.raises(BesomError, match=r"trained by another .*net\.py than its commit and changes have"),
            working_tree(lost, project / "mlruns/exact/trees"),
        ):
            pass
    assert trees(project) == []
    assert (project / "net.py").read_text() == "two\n"


def test_a_commit_that_is_not_there_is_told_of_with_how_to_get_it(project: Path):
    with (
        pytest.raises(BesomError, match=rf"does not have commit {'a' * 40}; get it: git fetch --all"),
        working_tree(Code(run_id="x", commit="a" * 40, diff=b""), project / "mlruns/exact/trees"),
    ):
        pass


def test_changes_that_do_not_apply_leave_no_tree(project: Path):
    code = Code(run_id="x", commit=git("rev-parse", "HEAD", folder=project), diff=b"nonsense")
    with (
        pytest.raises(BesomError, match="the code of run 'x' cannot be had again"),
        working_tree(code, project / "mlruns/exact/trees"),
    ):
        pass
    assert trees(project) == []


def test_outside_of_a_repository_it_is_told_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with (
        pytest.raises(BesomError, match=r"there is no git repository here .*; run it where run 'x' was trained"),
        working_tree(Code(run_id="x", commit="a" * 40, diff=b""), tmp_path / "trees"),
    ):
        pass


@pytest.mark.parametrize(
    ("tags", "files", "message"),
    [
        ({}, {}, "was recorded outside of a git repository: its code is not known; compare with"),
        (
            {"besom.git.dirty": "true"}, {},
            "was trained with uncommitted changes that were not recorded; compare with",
        ),
        (
            {"besom.git.dirty": "true", "besom.git.diff": "not recorded: they are too large, 3,000,000 bytes"}, {},
            "was trained with uncommitted changes that were not recorded: they are too large, 3,000,000 bytes; compare",
        ),
        ({"mlflow.source.git.commit": "--upload-pack=x"}, {}, "names no commit but '--upload-pack=x'; compare with"),
        ({"besom.git.dirty": "false"}, {}, "has no list of its packages among its artifacts; compare with"),
    ],
)  # fmt: skip
def test_a_run_whose_code_was_not_recorded_whole_is_refused(
    tags: Mapping[str, str], files: Mapping[str, bytes], message: str
):
    commits = {"mlflow.source.git.commit": "a" * 40} if tags else {}
    run = RecordedRun(
        run_id="x", name="one", status="FINISHED", config={}, tags={**commits, **tags}, digest=None, history={}
    )
    with pytest.raises(BesomError) as refused:
        Code.of(run, files)
    assert str(refused.value).startswith(f"run 'x' {message}")
