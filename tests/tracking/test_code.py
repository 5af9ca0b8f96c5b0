from __future__ import annotations

import platform
from pathlib import Path

import pytest

from besom.tracking.code import DIFF, LARGEST_DIFF, PACKAGES, CodeState, code_state, packages
from tests.repositories import commit, git


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository of one commit, as the current folder."""
    root = tmp_path / "project"
    commit(root, text="one\n", gone="here\n", __gitignore="ignored\n")
    monkeypatch.chdir(root)
    return root


def applied(state: CodeState, repository: Path, tmp_path: Path) -> Path:
    """The tree that a colleague gets from the commit and the diff."""
    tree = tmp_path / "again"
    git("worktree", "add", "-q", str(tree), state.tags["mlflow.source.git.commit"], folder=repository)
    (tmp_path / DIFF).write_bytes(state.files[DIFF].encode("utf-8", "surrogateescape"))
    git("apply", "--binary", str(tmp_path / DIFF), folder=tree)
    return tree


def test_the_commit_and_the_diff_give_the_tree_again(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (repository / "text").write_text("two\nno newline at the end")
    (repository / "gone").unlink()
    (repository / "sub dir").mkdir()
    (repository / "sub dir" / "näw file").write_text("new")
    (repository / "bytes").write_bytes(bytes(range(256)) * 4)
    (repository / "latin").write_bytes(b"caf\xe9\n")
    (repository / "ignored").write_text("no")
    (repository / "__pycache__").mkdir()
    (repository / "__pycache__/text.pyc").write_text("no")
    (repository / "link").symlink_to("nowhere")
    (repository / "staged").write_text("yes")
    git("add", "staged", folder=repository)
    git("config", "diff.noprefix", "true", folder=repository)  # however git is set up
    git("config", "color.ui", "always", folder=repository)
    before = git("status", "--porcelain", folder=repository)
    monkeypatch.chdir(repository / "sub dir")  # wherever in it one stands
    state = code_state()
    assert state.tags["besom.git.diff"] == "recorded"
    assert git("status", "--porcelain", folder=repository) == before
    tree = applied(state, repository, tmp_path)
    assert (tree / "link").readlink() == Path("nowhere")
    for path in ("text", "sub dir/näw file", "bytes", "latin", "staged"):
        assert (tree / path).read_bytes() == (repository / path).read_bytes()
    assert not (tree / "gone").exists()
    assert not (tree / "ignored").exists()
    assert not (tree / "__pycache__").exists()
    monkeypatch.chdir(tree)
    assert code_state() == state  # and so it is known to be the same


def test_a_clean_tree_has_no_diff_and_the_same_state_each_time(repository: Path):
    state = code_state()
    assert set(state.files) == {PACKAGES}
    assert state.tags["besom.git.dirty"] == "false"
    assert state.tags["mlflow.source.git.commit"] == git("rev-parse", "HEAD", folder=repository)
    assert "besom.git.diff" not in state.tags
    assert code_state() == state
    (repository / "text").write_text("two\n")
    assert code_state().folder != state.folder
    assert code_state().tags["besom.git.dirty"] == "true"


def test_a_change_of_the_same_size_right_after_the_commit_is_seen_beside_a_new_file(repository: Path):
    (repository / "text").write_text("two\n")
    (repository / "new").write_text("new\n")
    assert code_state().files[DIFF].count("diff --git") == 2


def test_what_is_recorded_there_is_not_code(repository: Path):
    store = repository / "mlruns"
    store.mkdir()
    (store / "mlflow.db").write_bytes(b"\0" * LARGEST_DIFF)
    assert DIFF not in code_state(besides=[store]).files
    assert code_state(besides=[store]).tags["besom.code"] != code_state().tags["besom.code"]


@pytest.mark.parametrize("path", ["new", "text"])
def test_a_diff_that_is_too_large_is_told_of_and_not_recorded(repository: Path, path: str):
    (repository / path).write_text("x\n" * LARGEST_DIFF)
    state = code_state()
    assert DIFF not in state.files
    assert state.tags["besom.git.diff"].startswith("not recorded: they are too large, ")
    assert state.tags["besom.git.dirty"] == "true"


def test_no_secret_is_recorded_with_the_changes(repository: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SERVICE_API_TOKEN", "hunter2hunter2")
    (repository / "text").write_text("sqlite://me:sesame@host/db\n")
    (repository / "settings").write_text("token = hunter2hunter2\n")
    state = code_state()
    assert state.tags["besom.git.diff"] == "recorded with secrets masked"
    assert not any(secret in state.files[DIFF] for secret in ("sesame", "hunter2"))
    assert "sqlite://me:***@host/db" in state.files[DIFF]


def test_outside_a_repository_there_are_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    state = code_state()
    assert (set(state.files), set(state.tags)) == ({PACKAGES}, {"besom.code"})


def test_a_machine_without_git_records_the_packages(repository: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(repository))
    state = code_state()
    assert (set(state.files), set(state.tags)) == ({PACKAGES}, {"besom.code"})


def test_packages_are_what_pip_takes_to_install_them_again():
    python, *listed = packages().splitlines()
    assert python == f"# Python {platform.python_version()}"
    assert any(line.startswith("torch==") for line in listed)
    assert any(line.startswith("# besom==") for line in listed)  # from this tree, which no index has
    assert listed == sorted(set(listed), key=str.lower)
