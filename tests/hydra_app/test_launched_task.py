"""The task function that another launcher gets, and the list of source files that its jobs leave."""

from __future__ import annotations

from pathlib import Path

import cloudpickle
import pytest
from omegaconf import DictConfig

from besom.hydra_app.sending.launched_task import LaunchedTask, take_sources
from besom.system.source_file import SourceFile


def test_in_the_process_that_made_it_a_task_runs_as_it_is_and_records_nothing():
    task = LaunchedTask(lambda config: config["x"] + 1)
    for each in (task, cloudpickle.loads(cloudpickle.dumps(task))):
        assert each(DictConfig({"x": 1})) == 2


@pytest.mark.parametrize("content", ["", "[", "[{}]", '[{"name": "a", "content": 1}]', '{"a": 1}', "[1]"])
def test_a_list_that_cannot_be_read_is_none(tmp_path: Path, content: str):
    (tmp_path / ".besom-sources.json").write_text(content, encoding="utf-8")
    assert take_sources(str(tmp_path)) is None


def test_a_list_is_read_once(tmp_path: Path):
    text = '[{"name": "net.py", "path": "/a/net.py", "digest": "d", "content": "eCA9IDE="}]'
    (tmp_path / ".besom-sources.json").write_text(text, encoding="utf-8")
    assert take_sources(str(tmp_path)) == (SourceFile(name="net.py", path="/a/net.py", digest="d", content=b"x = 1"),)
    assert take_sources(str(tmp_path)) is None
    assert take_sources(None) is None
