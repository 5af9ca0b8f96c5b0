from __future__ import annotations

from pathlib import Path

import pytest

import besom
from besom.tracking.provenance import command_line, command_tags


def test_the_user_and_besoms_version_are_recorded_with_the_command():
    tags = command_tags()
    assert tags["besom.version"] == besom.__version__
    assert tags["mlflow.source.name"] == command_line()
    assert tags["mlflow.user"]
    assert tags["besom.folder"] == str(Path.cwd())


def test_the_command_line_is_recorded_without_its_folder_and_its_passwords(monkeypatch: pytest.MonkeyPatch):
    uri = "postgresql://me:hunter2@db/mlflow"
    monkeypatch.setenv("SERVICE_TOKEN", "abc-def-ghi")
    arguments = ["train", f"tracking.uri={uri}", "note=two words", "+note=abc-def-ghi"]
    monkeypatch.setattr("sys.orig_argv", ["/usr/bin/python", "/opt/bin/besom", *arguments])
    assert command_line() == "besom train tracking.uri=postgresql://me:***@db/mlflow 'note=two words' +note=***"
