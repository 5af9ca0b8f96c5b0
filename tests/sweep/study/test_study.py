from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from besom.config.objectives import Objective
from besom.errors import ConfigError, StoreError
from besom.sweep.space.parser import SpaceParser
from besom.sweep.space.search_space import Params, SearchSpace
from besom.sweep.spec import SweepSpec
from besom.sweep.study.book import Asked
from besom.sweep.study.study import StudyBook, open_study, own_name
from besom.tracking.tags import StudyAttribute
from besom.workers.messages import State, TrialResult
from tests.conftest import App
from tests.sweep.books import ask, tell

MakeSpec = Callable[..., SweepSpec]

# TPE uses its model from the third trial on.
TPE = {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 2, "group": True, "multivariate": True}
PARAMS = {"rate": "tag(log, interval(1e-3, 1))", "db": "choice(small, large)"}
WHEN = {"db=large": {"db.shards": "range(1, 9)"}}


@pytest.fixture(scope="session")
def space(small_app: App) -> SearchSpace:
    return SpaceParser(small_app[0], source="digits.yaml").space(PARAMS, WHEN)[0]


def value(params: Params) -> float:
    return float(params["rate"]) + 0.01 * int(params.get("db.shards", 0))


def run(book: StudyBook, spec: SweepSpec) -> list[Params]:
    """Run one slot, which asks for the next trial while one trains."""
    asked: list[Params] = []
    ahead: Asked | None = None
    while book.done < spec.budget.n_trials:
        current = ahead or ask(book)
        ahead = ask(book) if book.done + 1 < spec.budget.n_trials else None
        asked.append(current.params)
        end(book, current)
    return asked


def end(book: StudyBook, asked: Asked, state: State = State.COMPLETE) -> None:
    """Tell a trial and settle it."""
    tell(book, asked, TrialResult(state=state, values=(value(asked.params),) if state is State.COMPLETE else ()))
    book.settle(asked.number)


def stored(directory: Path) -> optuna.Study:
    """Return the study as another process reads it."""
    return optuna.load_study(study_name="digits", storage=f"sqlite:///{directory}/optuna.db")


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


def test_pruned_and_failed_trials_count_and_interrupted_ones_do_not(
    make_spec: MakeSpec, space: SearchSpace, tmp_path: Path
):
    with open_study(make_spec(), space, tmp_path) as book:
        end(book, ask(book), State.FAIL)
        end(book, ask(book), State.PRUNED)
        interrupted = ask(book)
        assert book.done == 2
    assert [trial.state.name for trial in stored(tmp_path).trials] == ["FAIL", "PRUNED", "WAITING"]
    with open_study(make_spec(), space, tmp_path) as book:
        assert (book.done, book.waiting()) == (2, [2])
        again = ask(book)
        assert (again.number, again.params) == (interrupted.number, interrupted.params)
        assert ask(book).number == 3


@pytest.mark.filterwarnings("error")
def test_another_attempt_at_a_trial_reports_anew(make_spec: MakeSpec, space: SearchSpace, tmp_path: Path):
    halving = {"_target_": "optuna.pruners.SuccessiveHalvingPruner", "min_resource": 1, "reduction_factor": 2}
    spec = make_spec(n_trials=1, pruner=halving)
    with open_study(spec, space, tmp_path) as book:
        asked = ask(book)
        for epoch in range(1, 4):
            book.report(asked.number, epoch, 0.1)
        book.forget(asked.number)
        for epoch in range(1, 3):
            book.report(asked.number, epoch, 0.9)
        end(book, asked)
    (trial,) = stored(tmp_path).trials
    assert trial.intermediate_values == {1: 0.9, 2: 0.9}
    assert trial.system_attrs["completed_rung_0"] == 0.9
    assert trial.params == book.study.trials[asked.number].params


def test_a_trial_that_was_told_and_not_settled_is_run_again(make_spec: MakeSpec, space: SearchSpace, tmp_path: Path):
    with open_study(make_spec(), space, tmp_path) as book:
        asked = ask(book)
        tell(book, asked, TrialResult(state=State.COMPLETE, values=(0.5,)))
        assert book.done == 1
    with open_study(make_spec(), space, tmp_path) as book:
        assert book.done == 0
        assert ask(book).params == asked.params


def test_parameters_that_are_known_to_be_good_are_tried_first_and_once(
    make_spec: MakeSpec, space: SearchSpace, tmp_path: Path
):
    good: list[Params] = [{"rate": 0.5, "db": "large", "db.shards": 3}, {"db": "small"}]
    for _ in range(2):
        with open_study(make_spec(), space, tmp_path) as book:
            book.enqueue(good)
    with open_study(make_spec(), space, tmp_path) as book:
        asked = run(book, make_spec())
        book.enqueue(good)
        assert book.waiting() == []
    assert asked[0] == good[0]
    assert asked[1]["db"] == "small"
    assert [trial.number for trial in stored(tmp_path).trials] == [0, 1, 2, 3]
    assert [trial.state for trial in stored(tmp_path).trials] == [TrialState.COMPLETE] * 4


@pytest.fixture(scope="session")
def whole(make_spec: MakeSpec, space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> list[Params]:
    """The parameters of an uninterrupted study of 6 trials."""
    spec = make_spec(n_trials=6, sampler=TPE, seed=3)
    with open_study(spec, space, tmp_path_factory.mktemp("whole")) as book:
        return run(book, spec)


@pytest.mark.parametrize("told", [0, 1, 3, 4])
def test_a_sweep_that_was_stopped_asks_what_it_would_have_asked(
    make_spec: MakeSpec, space: SearchSpace, whole: list[Params], tmp_path: Path, told: int
):
    spec = make_spec(n_trials=6, sampler=TPE, seed=3)
    first: list[Params] = []
    with open_study(spec, space, tmp_path) as book:
        current = ask(book)
        for _ in range(told):
            ahead = ask(book)
            first.append(current.params)
            end(book, current)
            current = ahead
        ahead = ask(book)
    waiting = [TrialState.WAITING] * 2
    assert states(stored(tmp_path)) == [*[TrialState.COMPLETE] * told, *waiting]
    with open_study(spec, space, tmp_path) as book:
        assert book.done == told
        assert book.waiting() == [current.number, ahead.number] == [told, told + 1]
        assert first + run(book, spec) == whole
        assert book.done == 6
    assert states(stored(tmp_path)) == [TrialState.COMPLETE] * 6


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


def objectives(*told: str) -> dict[str, Any]:
    pairs = [one.split() for one in told]
    return {"objectives": tuple(Objective(name=name, direction=direction) for direction, name in pairs)}


@pytest.mark.parametrize(
    ("changes", "params", "told"),
    [
        (
            {},
            {"rate": "tag(log, interval(1e-3, 2))"},
            r"another search space \(rate: was .*1\.0.*, is .*2\.0.*\); choose another hydra\.sweeper\.study_name",
        ),
        ({}, {"name": "a,b"}, r"another search space \(name: was not there, is .*a.*b.*\)"),
        (objectives("maximize val/loss"), {}, r"it was maximize val/acc, it is maximize val/loss"),
        (objectives("minimize val/acc"), {}, r"it was maximize val/acc, it is minimize val/acc"),
        (
            objectives("maximize val/acc", "minimize cost/params"),
            {},
            r"it was maximize val/acc, it is maximize val/acc, minimize cost/params",
        ),
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
    with open_study(make_spec(), space, tmp_path) as book:
        ask(book)
    other, _ = SpaceParser(small_app[0], source="digits.yaml").space({**PARAMS, **params}, WHEN)
    with pytest.raises(ConfigError, match=told) as refused, open_study(make_spec(**changes), other, tmp_path):
        pass
    assert "\n" not in str(refused.value)
    with open_study(make_spec(), space, tmp_path):
        pass


def test_a_study_that_never_asked_a_trial_takes_another_space(
    make_spec: MakeSpec, space: SearchSpace, small_app: App, tmp_path: Path
):
    with open_study(make_spec(), space, tmp_path):
        pass
    other, _ = SpaceParser(small_app[0], source="digits.yaml").space({"rate": "interval(1, 2)"}, {})
    with open_study(make_spec(), other, tmp_path) as book:
        assert ask(book).params.keys() == {"rate"}
    with pytest.raises(ConfigError, match="another search space"), open_study(make_spec(), space, tmp_path):
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


def test_a_second_parent_is_refused_wherever_it_keeps_its_own_files(
    make_spec: MakeSpec, space: SearchSpace, tmp_path: Path
):
    for first in (make_spec(), make_spec(storage=f"sqlite:///{tmp_path}/a/mine.db")):
        database = first.storage or f"sqlite:///{tmp_path}/a/optuna.db"
        (tmp_path / "a").mkdir(exist_ok=True)
        with (
            open_study(first, space, tmp_path / "a"),
            pytest.raises(StoreError, match=f"is being swept by process {os.getpid()}"),
            open_study(make_spec(storage=database), space, tmp_path / "b"),
        ):
            pass
    with (  # studies of one name in two databases are two
        open_study(make_spec(storage=f"sqlite:///{tmp_path}/a/mine.db"), space, tmp_path / "a"),
        open_study(make_spec(storage=f"sqlite:///{tmp_path}/a/yours.db"), space, tmp_path / "b"),
    ):
        pass


def test_a_study_that_another_program_began_with_another_direction_is_refused(
    make_spec: MakeSpec, space: SearchSpace, tmp_path: Path
):
    optuna.create_study(study_name="digits", storage=f"sqlite:///{tmp_path}/optuna.db", direction="minimize")
    with (
        pytest.raises(ConfigError, match=r"another objective \(it was minimize, it is maximize\)"),
        open_study(make_spec(), space, tmp_path),
    ):
        pass
    assert "besom.space" not in stored(tmp_path).user_attrs


RACER = """
import sys
from pathlib import Path
from besom.sweep.space.search_space import SearchSpace
from besom.sweep.spec import SweepSpec
from besom.sweep.spec_parts import BudgetSpec, SearchSpec
from besom.sweep.study.study import open_study
from besom.config.objectives import Objective
from besom.workers.messages import TrialResult

goal = Objective(name="val/acc", direction="maximize")
search = SearchSpec(objectives=(goal,), source="x.yaml")
spec = SweepSpec(study_name=sys.argv[1], search=search, budget=BudgetSpec(n_trials=1))
print("ready", flush=True)
sys.stdin.readline()
with open_study(spec, SearchSpace(parameters=()), Path(sys.argv[2])) as book:
    asked = book.ask()
    book.write_asked(asked.number, [])
    book.tell(asked.number, TrialResult(values=(1.0,)), {})
    book.settle(0)
"""


def test_sweeps_that_start_at_once_may_all_make_the_database(tmp_path: Path, start_line: Callable[..., list[int]]):
    assert start_line([[sys.executable, "-c", RACER, name, str(tmp_path)] for name in "abc"]) == [0, 0, 0]
    url = f"sqlite:///{tmp_path}/optuna.db"
    assert [optuna.load_study(study_name=name, storage=url).best_value for name in "abc"] == [1.0] * 3


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"torn" * 300])
def test_a_broken_database_is_refused_and_left_as_it_is(
    make_spec: MakeSpec, space: SearchSpace, tmp_path: Path, content: bytes
):
    (tmp_path / "optuna.db").write_bytes(content)
    with (
        pytest.raises(StoreError, match=r"optuna\.db: (cannot be used|is torn)") as refused,
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


def test_the_studys_database_is_one_that_optuna_opens(make_spec: MakeSpec, space: SearchSpace, tmp_path: Path):
    with open_study(make_spec(n_trials=1), space, tmp_path) as book:
        run(book, make_spec(n_trials=1))
    study = stored(tmp_path)
    assert study.direction is optuna.study.StudyDirection.MAXIMIZE
    assert list(study.best_trial.params) == ["rate", "db", *(["db.shards"] if len(study.best_trial.params) > 2 else [])]
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_each_sweep_of_an_app_has_a_study_of_its_own_and_finds_it_again(
    make_spec: MakeSpec, space: SearchSpace, small_app: App, tmp_path: Path
):
    spec, fixed = make_spec(), ["seed=1"]
    other_space = SpaceParser(small_app[0], source="digits.yaml").space({"rate": "interval(1, 2)"}, {})[0]
    assert own_name(spec, space, fixed, tmp_path) == "digits"
    assert not list(tmp_path.iterdir())

    def start(name: str, space: SearchSpace, fixed: list[str]) -> None:
        with open_study(replace(spec, study_name=name), space, tmp_path) as book:
            book.set_user_attr(StudyAttribute.SPEC, {"fixed": fixed})

    start("digits", space, fixed)
    assert own_name(spec, space, fixed, tmp_path) == "digits"
    assert own_name(spec, space, ["seed=2"], tmp_path) == own_name(spec, other_space, fixed, tmp_path) == "digits-2"
    start("digits-2", other_space, fixed)
    assert own_name(spec, other_space, fixed, tmp_path) == "digits-2"
    assert own_name(spec, space, ["seed=2"], tmp_path) == "digits-3"
    assert own_name(make_spec(**objectives("minimize val/loss")), space, fixed, tmp_path) == "digits-3"
