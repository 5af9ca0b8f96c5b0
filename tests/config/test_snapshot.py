from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from besom.config.snapshot import snapshot
from besom.errors import ConfigError
from besom.sweep.compose import Composer
from tests.conftest import App


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/config.yaml").write_text("defaults: [experiment: one, _self_]\na: old\n")
    for name in ("one", "two"):
        (tmp_path / f"conf/experiment/{name}.yaml").write_text("b: old\n")
    return tmp_path / "conf"


def test_configs_are_composed_from_the_files_as_they_were_and_an_edit_is_told_once(
    folder: Path, tmp_path: Path, load_app: Callable[..., App]
):
    loader, config = load_app(folder, "config", remembering=False)
    with snapshot(loader, tmp_path / "scratch", read_by="nobody reads it") as taken:
        (folder / "experiment/two.yaml").write_text("b: changed\n")
        (folder / "experiment/one.yaml").unlink()
        composer = Composer(loader, config, [])
        assert [composer.compose({"experiment": name}).experiment.b for name in ("one", "two")] == ["old", "old"]
        assert set(taken.changed()) == {folder / "experiment/one.yaml", folder / "experiment/two.yaml"}
        taken._checked_s = 0.0
        assert taken.changed() == []
        with (folder / "config.yaml").open("a") as lines:
            lines.write("# edited\n")
        taken._checked_s = 0.0
        assert taken.warnings() == [f"{folder / 'config.yaml'} was changed on disk: nobody reads it"]
        with pytest.raises(ConfigError, match="experiment=none: there is no such config; did you mean one"):
            composer.compose({"experiment": "none"})
    assert list((tmp_path / "scratch").iterdir()) == []
    assert Composer(loader, config, []).compose({"experiment": "two"}).experiment.b == "changed"


def test_what_a_process_that_was_killed_left_is_removed_and_what_another_one_uses_is_not(
    folder: Path, tmp_path: Path, load_app: Callable[..., App]
):
    loader, _ = load_app(folder, "config", remembering=False)
    scratch = tmp_path / "scratch"
    (scratch / "configs-killed/0").mkdir(parents=True)
    (scratch / "configs-killed.lock").touch()
    with snapshot(loader, scratch):
        before = sorted(scratch.iterdir())
        assert len(before) == 2
        with snapshot(loader, scratch):
            assert set(before) < set(scratch.iterdir())
    assert list(scratch.iterdir()) == []


def test_what_is_recorded_among_the_configs_is_not_copied(folder: Path, load_app: Callable[..., App]):
    loader, config = load_app(folder, "config", remembering=False)
    with snapshot(loader, folder / "elsewhere/scratch") as taken:
        (folder / "elsewhere/one.yaml").write_text("b: 1\n")
        assert Composer(loader, config, []).compose({"experiment": "two"}).experiment.b == "old"
        assert not [path for path in taken._place.rglob("*") if "elsewhere" in path.relative_to(taken._place).parts]
