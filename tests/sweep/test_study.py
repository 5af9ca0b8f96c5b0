from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from besom.errors import ConfigError, StoreError
from besom.sweep.space import Params, SearchSpace, SpaceParser
from besom.sweep.spec import SweepSpec
from besom.sweep.study import Asked, StudyBook, build_sampler, open_study
from tests.conftest import App

MakeSpec = Callable[..., SweepSpec]

# TPE proper from the third trial on.
TPE = {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 2, "group": True, "multivariate": True}
PARAMS = {"rate": "tag(log, interval(1e-3, 1))", "db": "choice(small, large)"}
WHEN = {"db=large": {"db.shards": "range(1, 9)"}}


@pytest.fixture(scope="session")
def space(small_app: App) -> SearchSpace:
    return SpaceParser(small_app[0], source="digits.yaml").space(PARAMS, WHEN)[0]


def value(params: Params) -> float:
    return float(params["rate"]) + 0.01 * int(params.get("db.shards", 0))


def run(book: StudyBook, spec: SweepSpec) -> list[Params]:
    """What one slot does: while a trial trains, the next one is asked ahead."""
    asked: list[Params] = []
    ahead: Asked | None = None
    while book.done < spec.n_trials:
        current = ahead or book.ask()
        ahead = book.ask() if book.done + 1 < spec.n_trials else None
        asked.append(current.params)
        book.tell(current.trial, value(current.params))
    return asked


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def test_a_study_that_is_complete_needs_no_more_trials(make_spec: MakeSpec, space: SearchSpace, tmp_path: Path):
    spec = make_spec(n_trials=3)
    with open_study(spec, space, tmp_path) as book:
        run(book, spec)
    with open_study(spec, space, tmp_path) as book:
        assert book.done == 3
        assert run(book, spec) == []
        assert states(book.study) == [TrialState.COMPLETE] * 3


def test_a_larger_study_goes_on_where_the_smaller_one_ended(make_spec: MakeSpec, space: SearchSpace, tmp_path: Path):
    with open_study(make_spec(n_trials=2), space, tmp_path) as book:
        run(book, make_spec(n_trials=2))
    with open_study(make_spec(n_trials=5), space, tmp_path) as book:
        assert len(run(book, make_spec(n_trials=5))) == 3


def test_failures_count_and_interrupted_trials_do_not(make_spec: MakeSpec, space: SearchSpace, tmp_path: Path):
    with open_study(make_spec(), space, tmp_path) as book:
        book.tell(book.ask().trial, None)
        interrupted = book.ask()
        book.interrupt(interrupted.trial)
        assert book.done == 1
        again = book.ask()
        assert again.params == interrupted.params
        assert again.number != interrupted.number
    with open_study(make_spec(), space, tmp_path) as book:
        assert book.done == 1


@pytest.fixture(scope="session")
def whole(make_spec: MakeSpec, space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> list[Params]:
    """What a study of 6 trials asks when nobody stops it."""
    spec = make_spec(n_trials=6, sampler=TPE, seed=3)
    with open_study(spec, space, tmp_path_factory.mktemp("whole")) as book:
        return run(book, spec)


@pytest.mark.parametrize(("told", "clean"), [(0, True), (1, False), (3, True), (4, False)])
def test_a_sweep_that_was_stopped_asks_what_it_would_have_asked(
    make_spec: MakeSpec, space: SearchSpace, whole: list[Params], tmp_path: Path, told: int, clean: bool
):
    spec = make_spec(n_trials=6, sampler=TPE, seed=3)
    first: list[Params] = []
    with open_study(spec, space, tmp_path) as book:
        current = book.ask()
        for _ in range(told):
            ahead = book.ask()
            first.append(current.params)
            book.tell(current.trial, value(current.params))
            current = ahead
        ahead = book.ask()
        if clean:
            book.interrupt(current.trial)
            book.interrupt(ahead.trial)
    with open_study(spec, space, tmp_path) as book:
        assert book.done == told
        assert TrialState.RUNNING not in states(book.study)
        assert first + run(book, spec) == whole
        assert book.done == 6


def test_two_studies_with_one_seed_ask_the_same_and_with_another_seed_something_else(
    make_spec: MakeSpec, space: SearchSpace, tmp_path: Path
):
    asked = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        spec = make_spec(n_trials=3, seed=seed)
        with open_study(spec, space, tmp_path / folder) as book:
            asked.append(run(book, spec))
    assert asked[0] == asked[1]
    assert asked[0] != asked[2]
    assert asked[0][0] != asked[0][1]


@pytest.mark.parametrize(
    ("changes", "params", "told"),
    [
        ({}, {"rate": "tag(log, interval(1e-3, 2))"}, r"another search space \(rate\)"),
        ({}, {"name": "a,b"}, r"another search space \(name\)"),
        ({"objective": "val/loss"}, {}, r"it was maximize val/acc, it is maximize val/loss"),
        ({"direction": "minimize"}, {}, r"it was maximize val/acc, it is minimize val/acc"),
    ],
)
def test_a_study_of_another_space_or_objective_is_refused_with_the_difference(
    make_spec: MakeSpec,
    space: SearchSpace,
    small_app: App,
    tmp_path: Path,
    changes: dict[str, Any],
    params: dict[str, str],
    told: str,
):
    with open_study(make_spec(), space, tmp_path):
        pass
    other, _ = SpaceParser(small_app[0], source="digits.yaml").space({**PARAMS, **params}, WHEN)
    with pytest.raises(ConfigError, match=told), open_study(make_spec(**changes), other, tmp_path):
        pass
    with open_study(make_spec(), space, tmp_path):
        pass


def test_a_second_parent_is_refused_with_the_process_id_of_the_first(
    make_spec: MakeSpec, space: SearchSpace, tmp_path: Path
):
    with (
        open_study(make_spec(), space, tmp_path),
        pytest.raises(StoreError, match=f"study 'digits' is being swept by process {os.getpid()}"),
        open_study(make_spec(), space, tmp_path),
    ):
        pass
    with open_study(make_spec(), space, tmp_path), open_study(make_spec(study_name="other"), space, tmp_path):
        pass


RACER = """
import sys
from pathlib import Path
from besom.sweep.space import SearchSpace
from besom.sweep.spec import SweepSpec
from besom.sweep.study import open_study

spec = SweepSpec(
    study_name=sys.argv[1], objective="val/acc", direction="maximize", n_trials=1, timeout_s=None, sampler={}, seed=0,
    storage=None, devices="cpu", trials_per_device=1, n_jobs=None, max_failure_rate=1.0, source="x.yaml",
)
print("ready", flush=True)
sys.stdin.readline()
with open_study(spec, SearchSpace(parameters=()), Path(sys.argv[2])) as book:
    book.tell(book.ask().trial, 1.0)
"""


def test_sweeps_that_start_at_once_may_all_make_the_database(tmp_path: Path, start_line: Callable[..., list[int]]):
    assert start_line([[sys.executable, "-c", RACER, name, str(tmp_path)] for name in "abc"]) == [0, 0, 0]


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"torn" * 300])
def test_a_broken_database_is_refused_and_left_as_it_is(
    make_spec: MakeSpec, space: SearchSpace, tmp_path: Path, content: bytes
):
    (tmp_path / "optuna.db").write_bytes(content)
    with (
        pytest.raises(StoreError, match=r"optuna\.db: cannot be used") as refused,
        open_study(make_spec(), space, tmp_path),
    ):
        pass
    assert "\n" not in str(refused.value)
    assert (tmp_path / "optuna.db").read_bytes() == content


def test_the_password_of_a_storage_is_not_told(make_spec: MakeSpec, space: SearchSpace, tmp_path: Path):
    spec = make_spec(storage="nosuchdialect://me:hunter2@db/optuna")
    with pytest.raises(StoreError, match=r"me:\*\*\*@db") as refused, open_study(spec, space, tmp_path):
        pass
    assert "hunter2" not in str(refused.value)


# Samplers.


@pytest.mark.parametrize(
    "sampler",
    [
        {},
        TPE,
        {"_target_": "optuna.samplers.RandomSampler"},
        {"_target_": "optuna.samplers.QMCSampler", "qmc_type": "halton", "scramble": True},
        {"_target_": "optuna.samplers.BruteForceSampler"},
        {
            "_target_": "optuna.samplers.GridSampler",
            "search_space": {"rate": [0.1, 1.0], "db": ["small"], "db.shards": [1, 2]},
        },
    ],
    ids=lambda sampler: sampler.get("_target_", "default").rpartition(".")[2],
)
def test_samplers_are_chosen_by_target_and_finish_a_study(
    make_spec: MakeSpec, small_app: App, tmp_path: Path, sampler: dict[str, Any]
):
    parser = SpaceParser(small_app[0], source="digits.yaml")
    space, _ = parser.space({"rate": "choice(0.1, 1.0)", "db": "choice(small)", "db.shards": "choice(1, 2)"}, {})
    spec = make_spec(sampler=sampler, n_trials=5, seed=1)
    with open_study(spec, space, tmp_path) as book:
        asked = run(book, spec)
    assert len(asked) == book.done == 5
    if "Grid" in json.dumps(sampler):
        assert len({tuple(params.items()) for params in asked[:4]}) == 4


def test_the_points_of_a_sequence_go_on_after_a_resume(make_spec: MakeSpec, space: SearchSpace, tmp_path: Path):
    sampler = {"_target_": "optuna.samplers.QMCSampler", "scramble": True, "warn_independent_sampling": False}
    spec = make_spec(sampler=sampler, n_trials=4)
    with open_study(spec, space, tmp_path / "whole") as book:
        whole = run(book, spec)
    first: list[Params] = []
    for n_trials in (2, 4):
        shorter = make_spec(sampler=sampler, n_trials=n_trials)
        with open_study(shorter, space, tmp_path / "parts") as book:
            first += run(book, shorter)
    assert first == whole


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        ({"_target_": "optuna.samplers.NoSuchSampler"}, "NoSuchSampler does not exist; use .*TPESampler"),
        ({"_target_": "nosuchpackage.Sampler"}, "nosuchpackage.Sampler does not exist"),
        ({"seed": 1}, "has no _target_"),
        ({"_target_": "optuna.samplers.TPESampler", "n_startup": 3}, "n_startup"),
        ({"_target_": "builtins.dict"}, "builtins.dict is not an Optuna sampler"),
    ],
)
def test_a_sampler_that_cannot_be_built_is_refused_with_the_remedy(
    make_spec: MakeSpec, sampler: dict[str, Any], told: str
):
    with pytest.raises(ConfigError, match=told) as refused:
        build_sampler(make_spec(sampler=sampler), 0)
    assert str(refused.value).startswith("digits.yaml: hydra.sweeper.sampler: ")
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(find_spec("cmaes") is not None, reason="cmaes is installed here")
def test_a_sampler_whose_package_is_missing_says_which_before_the_sweep_starts(make_spec: MakeSpec):
    with pytest.raises(ConfigError, match="CmaEsSampler needs a package more: pip install cmaes"):
        build_sampler(make_spec(sampler={"_target_": "optuna.samplers.CmaEsSampler"}), 0)


def test_the_studys_database_is_one_that_optuna_opens(make_spec: MakeSpec, space: SearchSpace, tmp_path: Path):
    with open_study(make_spec(n_trials=1), space, tmp_path) as book:
        run(book, make_spec(n_trials=1))
    study = optuna.load_study(study_name="digits", storage=f"sqlite:///{tmp_path}/optuna.db")
    assert study.direction is optuna.study.StudyDirection.MAXIMIZE
    assert list(study.best_trial.params) == ["rate", "db", *(["db.shards"] if len(study.best_trial.params) > 2 else [])]
    assert sqlite3.connect(tmp_path / "optuna.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)
