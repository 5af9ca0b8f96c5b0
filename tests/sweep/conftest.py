from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from besom.sweep.spec import SweepSpec
from tests.conftest import App

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
def small_app(tmp_path_factory: pytest.TempPathFactory, load_app: Callable[..., App]) -> App:
    """A config without types, which takes any value, and a group of two."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "db").mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "db" / "small.yaml").write_text("size: 1\n")
    (folder / "db" / "large.yaml").write_text("size: 2\nshards: 8\n")
    return load_app(folder, "config")


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., SweepSpec]:
    """A sweep of 4 trials that maximizes val/acc, but for what the test changes."""

    def make(**changes: Any) -> SweepSpec:
        usual: dict[str, Any] = {
            "study_name": "digits",
            "objective": "val/acc",
            "direction": "maximize",
            "n_trials": 4,
            "timeout_s": None,
            "sampler": {},
            "seed": 0,
            "storage": None,
            "devices": "cpu",
            "trials_per_device": 1,
            "n_jobs": None,
            "max_failure_rate": 1.0,
            "source": "digits.yaml",
        }
        return SweepSpec(**{**usual, **changes})

    return make
