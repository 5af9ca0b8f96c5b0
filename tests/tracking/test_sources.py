from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from besom.system.source_file import SourceFile
from besom.tracking.code import CodeState, code_state
from besom.tracking.sources import SourceEntry, SourceKeeper
from tests.repositories import commit

OUTSIDE = CodeState(tags={"besom.code": "0123"}, files={"packages.txt": "torch==2.6.0\n"})


def imported(path: Path) -> SourceFile:
    content = path.read_bytes()
    return SourceFile(name=path.name, path=str(path), digest=sha256(content).hexdigest(), content=content)


def test_outside_of_git_the_code_is_what_was_imported_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    net = tmp_path / "net.py"
    keeper, codes = SourceKeeper(OUTSIDE), []
    for text in ("one\n", "two\n", "one\n"):
        net.write_text(text)
        state = keeper.state([imported(net)])
        assert state.files["sources/net.py"] == text
        assert state.tags["besom.sources"] == "recorded"
        codes.append(state.tags["besom.code"])
    assert codes[0] == codes[2] != codes[1]
    assert codes[0] != OUTSIDE.tags["besom.code"]


def test_of_a_worker_that_told_nothing_the_sources_are_not_recorded():
    assert SourceKeeper(OUTSIDE).state(None).tags["besom.sources"] == "not recorded"
    only_besom = SourceKeeper(OUTSIDE).state([])
    assert (only_besom.tags["besom.code"], only_besom.tags["besom.sources"]) == ("0123", "recorded")


def test_in_a_repository_those_files_are_kept_that_its_commit_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = tmp_path / "project"
    commit(root, net__py="one\n", same__py="same\n")
    monkeypatch.chdir(root)
    keeper = SourceKeeper(code_state())
    clean = keeper.state([imported(root / "net.py"), imported(root / "same.py")])
    (root / "net.py").write_text("two\n")  # while the sweep runs
    (tmp_path / "beside.py").write_text("beside\n")
    edited = keeper.state([imported(tmp_path / "beside.py"), imported(root / "net.py"), imported(root / "same.py")])
    assert {name for name in clean.files if name.startswith("sources/")} == set()
    kept = {name: text for name, text in edited.files.items() if name.startswith("sources/")}
    assert kept == {"sources/net.py": "two\n", "sources/beside.py": "beside\n"}
    assert clean.tags["besom.code"] != edited.tags["besom.code"]
    listed = SourceEntry.read({"sources.txt": edited.files["sources.txt"].encode()})
    assert [(one.name, one.place) for one in listed] == [
        ("beside.py", ""),
        ("net.py", "net.py"),
        ("same.py", "same.py"),
    ]


def test_no_secret_is_kept_with_a_source_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("store = 'sqlite://me:sesame@host/db'\n")
    state = SourceKeeper(OUTSIDE).state([imported(tmp_path / "net.py")])
    assert "sesame" not in state.files["sources/net.py"]
    assert state.tags["besom.sources"] == "recorded with secrets masked"
