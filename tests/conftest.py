from __future__ import annotations

import copy
import gc
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

# Before torch is imported anywhere: several tests run at once, and threads that spin would starve each other.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import hydra
import pytest
from alembic.script import ScriptDirectory
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hypothesis import HealthCheck, settings
from omegaconf import DictConfig

from besom.config.hydra_versions import VERSION_BASE
from besom.config.paths import conf_dir, search_path, sweeps_dir
from besom.config.schema import register_schemas
from besom.sweep.study.storage import open_storage
from besom.tracking.places import settle
from besom.tracking.store import Location, connect
from tests import forking
from tests.forking import Forked
from tests.remembered import RememberingLoader

App = tuple[ConfigLoader, DictConfig]

SEED = pytest.StashKey[int]()

forking.fork_workers()

# Tests share the machine with each other: how long an example takes says nothing.
# The same examples each time: a change is judged by what it changes. `--hypothesis-profile=explore` draws others.
settings.register_profile("besom", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("explore", settings.get_profile("besom"), derandomize=False)
settings.load_profile("besom")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: for a good part of their time, tests wait for processes that they started."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--random-order-seed", type=int, help="run the tests in the order that this number gives")


def pytest_configure(config: pytest.Config) -> None:
    told = getattr(config, "workerinput", None)
    if told is None:
        chosen = config.getoption("random_order_seed")
        config.stash[SEED] = random.randrange(1_000_000) if chosen is None else chosen
    else:  # one of several processes that run the tests
        config.stash[SEED] = told["random_order_seed"]
        forking.fork_from(told["forkers"])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput.update(random_order_seed=node.config.stash[SEED], forkers=forking.forkers())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.write_line(f"in the order of --random-order-seed={config.stash[SEED]}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shuffle the files, and the tests of each; those files come first that take longest, or one would run alone."""
    chance = random.Random(config.stash[SEED])
    files = sorted({item.path for item in items})
    places = dict(zip(files, chance.sample(range(len(files)), len(files)), strict=True))
    chance.shuffle(items)
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, places[item.path]))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector out of imports, and what was imported out of its passes: a tenth of the time."""
    gc.disable()
    collected = yield
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
    return collected


def pytest_unconfigure() -> None:
    gc.unfreeze()  # or a library reports at exit what it takes for leaks


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call() -> None:
    hide_the_test()


def hide_the_test() -> None:
    """Hide the current test from workers: those of one environment share a fork server, which saves seconds each."""
    os.environ.pop("PYTEST_CURRENT_TEST", None)


@pytest.fixture(scope="session", autouse=True)
def _revisions_are_read_once() -> Iterator[None]:
    # For each database that is opened, Optuna and MLflow have Alembic import all revisions to learn of the latest one.
    with pytest.MonkeyPatch.context() as patch:
        for name in ("get_heads", "get_current_head"):
            patch.setattr(ScriptDirectory, name, once_for_each_folder(getattr(ScriptDirectory, name)))
        yield


def once_for_each_folder(look: Callable[[ScriptDirectory], Any]) -> Callable[[ScriptDirectory], Any]:
    known: dict[str, Any] = {}

    def remember(scripts: ScriptDirectory) -> Any:
        if scripts.dir not in known:
            known[scripts.dir] = look(scripts)
        return copy.copy(known[scripts.dir])

    return remember


@pytest.fixture(autouse=True)
def _no_other_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(autouse=True)
def _no_test_in_the_environment() -> None:
    hide_the_test()


@pytest.fixture(autouse=True)
def _no_job_of_another_test() -> None:
    # Hydra keeps the config of the last job that ran in this process, to which ${hydra:…} refers.
    HydraConfig.instance().cfg = None


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    # Hydra sets logging up anew in each app, to write to what pytest has closed by the next test.
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(params=["America/New_York", "Asia/Kolkata"])
def elsewhere(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs where clocks are behind UTC, in a zone that changes them, and where they are ahead."""
    with in_zone(request.param):
        yield request.param


@contextmanager
def in_zone(name: str) -> Iterator[None]:
    """Live in a time zone, for the time of a `with` block."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


@pytest.fixture(scope="session")
def load_app() -> Callable[..., App]:
    """Hydra's config loader and a sweep's whole config, as Hydra would hand them to the sweeper."""

    def load(folder: Path, name: str, *overrides: str, remembering: bool = True) -> App:
        register_schemas()
        with search_path([conf_dir()]), initialize_config_dir(config_dir=str(folder), **VERSION_BASE):
            loader = GlobalHydra.instance().config_loader()
            if remembering:
                loader = RememberingLoader(loader.get_search_path())
            return loader, loader.load_configuration(name, list(overrides), run_mode=RunMode.MULTIRUN)

    return load


@pytest.fixture(scope="session")
def digits_app(load_app: Callable[..., App]) -> App:
    """The shipped sweep of digits."""
    return load_app(sweeps_dir(), "digits", "trainer=cpu")


@pytest.fixture(scope="session")
def compose() -> Callable[..., DictConfig]:
    """The config of one trial, from conf/train.yaml and overrides; composed once, and copied for each test."""

    @cache
    def composed(*overrides: str) -> DictConfig:
        register_schemas()
        with initialize_config_dir(config_dir=str(conf_dir()), **VERSION_BASE):
            return hydra.compose("train", overrides=["trainer=cpu", *overrides])

    return lambda *overrides: copy.deepcopy(composed(*overrides))


@pytest.fixture(scope="session")
def start_line() -> Callable[..., list[int]]:
    """Start commands that say `ready` and wait for a line, let all go on at once, return their exit codes."""

    def race(commands: Sequence[Sequence[str]]) -> list[int]:
        racers = [
            Forked[str](command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for command in commands
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        for racer in racers:
            racer.communicate()
        return [racer.returncode for racer in racers]

    return race


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # MLflow takes seconds to make a store; a copy takes none.
    location = Location.of({"uri": None, "directory": tmp_path_factory.mktemp("store")})
    connect(location)
    with closing(sqlite3.connect(location.database)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return location.database


@pytest.fixture(scope="session")
def put_store(_empty_store: Path) -> Callable[[Path], Location]:
    """Makes a folder a tracking store with nothing in it."""

    def put(directory: Path) -> Location:
        found = Location.of({"uri": None, "directory": directory})
        found.directory.mkdir(parents=True)
        shutil.copy(_empty_store, found.database)
        settle(found.database)
        return found

    return put


@pytest.fixture(scope="session")
def _no_studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Creating the tables takes longer than a study: each test copies this file.
    path = tmp_path_factory.mktemp("empty") / "optuna.db"
    storage = open_storage(f"sqlite:///{path}")
    storage.remove_session()
    storage.engine.dispose()  # type: ignore[attr-defined]
    return path


@pytest.fixture
def location(tmp_path: Path, put_store: Callable[[Path], Location]) -> Location:
    """A tracking store of the test's own, with nothing in it."""
    return put_store(tmp_path / "mlruns")
