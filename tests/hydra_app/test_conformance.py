"""Hydra's own conformance suites against `hydra/sweeper: besom`, as they come in Hydra's wheel."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias

import pytest
from hydra.core.plugins import Plugins
from hydra.test_utils import test_utils as hydra_test_utils
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)
from hydra.test_utils.test_utils import TSweepRunner
from hydra.version import _UNSPECIFIED_, VersionBase
from omegaconf import DictConfig

from besom.hydra_app.app import SweepFailed
from hydra_plugins.besom_sweeper.besom_sweeper import BesomSweeper
from tests import forking

Capture: TypeAlias = pytest.CaptureFixture[str]

Plugins.instance()  # before the first fixture copies the singletons

BY_ANY_LAUNCHER = [
    "hydra/sweeper=besom",
    "hydra/sweeper/sampler=grid",  # the order of Hydra's own sweeper
    "hydra.sweeper.n_jobs=2",
]
BESOM = [
    *BY_ANY_LAUNCHER,
    "hydra.sweeper.devices=cpu",
    "hydra.sweeper.trials_per_device=2",  # two slots on a single core too
]


@pytest.fixture(autouse=True)
def _no_version_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a new process: the suites expect Hydra 1.1's behaviour, and other tests of this process chose 1.3.
    monkeypatch.setattr(VersionBase.instance(), "version_base", _UNSPECIFIED_)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not tmp_path, which the suites remove: joblib's processes keep running in the folder where they started.
    monkeypatch.chdir(tmp_path_factory.mktemp("app"))


@pytest.fixture
def overrides(request: pytest.FixtureRequest) -> list[str]:
    """Return a copy of the parameter: the suites extend what they are given."""
    return list(request.param)


@pytest.fixture
def extra_flags(request: pytest.FixtureRequest) -> list[str]:
    """Return a copy of the parameter, as above."""
    return list(request.param)


def test_sweeper_is_discovered_as_a_plugin() -> None:
    from hydra.plugins.sweeper import Sweeper

    assert "BesomSweeper" in [plugin.__name__ for plugin in Plugins.instance().discover(Sweeper)]
    assert BesomSweeper.__module__ == "hydra_plugins.besom_sweeper.besom_sweeper"


def fail(_: DictConfig) -> None:
    """Raise an error that has a cause."""
    try:
        raise ValueError("the cause")
    except ValueError as cause:
        raise RuntimeError("no luck") from cause


class Launchers(LauncherTestSuite):
    """Hydra's suite, but for the type of a failure: a sweep ends in one line, after the job's own traceback."""

    def test_failure_preserves_task_traceback(
        self, hydra_sweep_runner: TSweepRunner, launcher_name: str, overrides: list[str], tmpdir: Path, capsys: Capture
    ) -> None:
        sweep = hydra_sweep_runner(
            calling_file=None,
            calling_module="hydra.test_utils.a_module",
            task_function=fail,
            config_path="configs",
            config_name="compose.yaml",
            overrides=[f"hydra/launcher={launcher_name}", *overrides],
            temp_dir=tmpdir,
        )
        with pytest.raises(SweepFailed, match="RuntimeError: no luck"), sweep:
            pass
        traceback = capsys.readouterr().err
        assert "in fail" in traceback
        assert "ValueError: the cause" in traceback


@pytest.mark.parametrize(("launcher_name", "overrides"), [("basic", BESOM)], indirect=["overrides"])
class TestLauncherSuite(Launchers):
    """Jobs, their folders and their returns, with Besom's workers in place of the basic launcher."""


@pytest.mark.parametrize(("launcher_name", "overrides"), [("basic", BESOM)], indirect=["overrides"])
class TestBatches(BatchedSweeperTestSuite):
    """Six jobs in batches of two."""


@pytest.mark.parametrize(("task_launcher_cfg", "extra_flags"), [({}, ["-m", *BESOM])], indirect=["extra_flags"])
class TestIntegration(IntegrationTestSuite):
    """Apps in new processes; all but one of them are forked, since a new interpreter imports for seconds."""

    @pytest.fixture(autouse=True)
    def _forked(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        if request.node.originalname != "test_get_orig_dir_multirun":
            run = partial(forking.run, check=True, timeout=120)
            monkeypatch.setattr(hydra_test_utils, "subprocess", SimpleNamespace(check_call=run))


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [("joblib", [*BY_ANY_LAUNCHER, "hydra.launcher.n_jobs=2"])], indirect=["overrides"]
)
class TestThroughJoblib(Launchers):
    """The same jobs, run by another launcher."""
