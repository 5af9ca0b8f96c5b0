from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from besom.config.objectives import Objective
from besom.sweep.space.parser import SpaceParser
from besom.sweep.spec import SweepSpec
from besom.tracking.store import Location
from tests.conftest import App
from tests.sweep.books import PARAMS, WHEN, Folder
from tests.sweep.commands import SWEEP, Command
from tests.sweep.specs import sweep_spec
from tests.sweep.sweeps import Sweep

CONFIG = """\
defaults: [db: small, _self_]
rate: 0.1
name: plain
flag: true
items: [1, 2]
table: {a: 1}
nothing: null
"""


@pytest.fixture(scope="session")
def make_app(tmp_path_factory: pytest.TempPathFactory, load_app: Callable[..., App]) -> Callable[..., App]:
    """Return a function that makes an app from an untyped config and a config group with two options."""

    def make(config: str, *, small: str = "size: 1\n") -> App:
        folder = tmp_path_factory.mktemp("app")
        (folder / "db").mkdir()
        (folder / "config.yaml").write_text(config)
        (folder / "db" / "small.yaml").write_text(small)
        (folder / "db" / "large.yaml").write_text("size: 2\nshards: 8\n")
        return load_app(folder, "config")

    return make


@pytest.fixture(scope="session")
def small_app(make_app: Callable[..., App]) -> App:
    """A small app."""
    return make_app(CONFIG)


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., SweepSpec]:
    """Return a function that makes a spec of 4 trials, which maximizes val/acc, with the test's changes."""

    def make(**changes: Any) -> SweepSpec:
        usual: dict[str, Any] = {
            "study_name": "digits",
            "objectives": (Objective(name="val/acc", direction="maximize"),),
            "n_trials": 4,
            "wanted": "cpu",
            "source": "digits.yaml",
        }
        return sweep_spec(**{**usual, **changes})

    return make


@pytest.fixture
def folder(
    tmp_path: Path, make_spec: Callable[..., SweepSpec], small_app: App, _no_studies: Path
) -> Callable[..., Folder]:
    """Return a function that makes a new folder; its arguments are keys of the sweep's spec."""
    space, _ = SpaceParser(small_app[0], source="digits.yaml").space(PARAMS, WHEN)
    made = iter(range(10_000))

    def make(**spec: Any) -> Folder:
        path = tmp_path / str(next(made)) / "optuna.db"
        path.parent.mkdir()
        shutil.copy(_no_studies, path)
        return Folder(path, make_spec(**{"n_trials": 8, "seed": 3, **spec}), space)

    return make


@pytest.fixture
def sweep(digits_app: App, make_spec: Callable[..., SweepSpec], location: Location, _no_studies: Path) -> Sweep:
    """A study of digits over learning rates, with fake workers."""
    shutil.copy(_no_studies, location.directory)
    return Sweep(digits_app, make_spec, location, {"optimizer.lr": "interval(0.001, 0.1)"})


@pytest.fixture(scope="session")
def untracked_sweep(
    digits_app: App, make_spec: Callable[..., SweepSpec], tmp_path_factory: pytest.TempPathFactory, _no_studies: Path
) -> Callable[[], Sweep]:
    """Return a function that makes such a study in a new folder, without MLflow."""

    def make() -> Sweep:
        location = Location.of({"uri": None, "directory": tmp_path_factory.mktemp("untracked")})
        shutil.copy(_no_studies, location.directory)
        return Sweep(digits_app, make_spec, location, {"optimizer.lr": "interval(0.001, 0.1)"}, tracked=False)

    return make


@pytest.fixture
def command(
    tmp_path: Path, location: Location, load_app: Callable[..., App], _no_studies: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """`besom sweep own.yaml` of four trials in the test's folder, with fake workers."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(_no_studies, location.directory)
    (tmp_path / "own.yaml").write_text(SWEEP)
    return Command(tmp_path, location, load_app)
