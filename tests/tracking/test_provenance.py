from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import besom
from besom.tracking.provenance import code_tags, command_line


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository of one commit, as the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("one")
    identity = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", *identity, *command], check=True)
    return tmp_path


def test_the_commit_is_recorded_and_whether_the_tree_differs_from_it(repository: Path):
    tags = code_tags()
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert tags["mlflow.source.git.commit"] == head
    assert tags["besom.git.dirty"] == "false"
    assert tags["besom.version"] == besom.__version__
    (repository / "file").write_text("two")
    assert code_tags()["besom.git.dirty"] == "true"


def test_outside_a_repository_there_is_no_commit_to_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert {"mlflow.source.git.commit", "besom.git.dirty"}.isdisjoint(code_tags())


def test_a_machine_without_git_records_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_tags()["mlflow.source.type"] == "LOCAL"


def test_the_command_line_is_recorded_without_its_folder_and_its_passwords(monkeypatch: pytest.MonkeyPatch):
    uri = "postgresql://me:hunter2@db/mlflow"
    monkeypatch.setattr(
        "sys.orig_argv", ["/usr/bin/python", "/opt/bin/besom", "train", f"tracking.uri={uri}", "note=two words"]
    )
    assert command_line() == "besom train tracking.uri=postgresql://me:***@db/mlflow 'note=two words'"
