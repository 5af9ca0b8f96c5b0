from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from besom.errors import ConfigError
from besom.sweep.space.parser import SpaceParser
from besom.sweep.space.search_space import Params, SearchSpace
from besom.sweep.spec import SweepSpec
from besom.sweep.study.grid import Grid
from besom.sweep.study.samplers import build_sampler
from tests.conftest import App

GRID = {"_target_": "optuna.samplers.GridSampler"}
BRUTE_FORCE = {"_target_": "optuna.samplers.BruteForceSampler"}
PARAMS = {"model": "choice(linear, mlp)", "rate": "range(0.1, 0.4, 0.1)"}
WHEN = {"model=mlp": {"items": "choice([1], [2])"}}

Make = Callable[..., SweepSpec]


@pytest.fixture
def read(small_app: App) -> Callable[..., SearchSpace]:
    def run(params: dict[str, Any] = PARAMS, when: dict[str, Any] = WHEN) -> SearchSpace:
        return SpaceParser(small_app[0], source="digits.yaml").space(params, when)[0]

    return run


def grid_of(spec: SweepSpec, space: SearchSpace) -> Grid:
    grid = Grid.of(spec.search, space)
    assert grid is not None
    return grid


def rounded(params: Params) -> Params:
    """Round a value: a sampler adds steps in binary, and 0.1 + 2 * 0.1 is not exactly 0.3."""
    return {**params, "rate": round(params["rate"], 9)}


def visit(study: optuna.Study, spec: SweepSpec, space: SearchSpace, grid: Grid, count: int) -> list[Params]:
    """Ask and tell as a sweep does."""
    seen = []
    for _ in range(count):
        study.sampler = build_sampler(spec.search, len(study.trials), space)
        study.enqueue_trial(grid.next(study))
        trial = study.ask()
        seen.append(space.sample(trial))
        try:
            study.tell(trial, 1.0)
        except RuntimeError:
            assert study.trials[-1].state.is_finished()  # the sampler calls `study.stop()` after the trial is told
    return seen


def test_a_grid_visits_every_point_once_in_their_order(read: Callable[..., SearchSpace], make_spec: Make):
    space, spec = read(), make_spec(sampler=GRID)
    grid = grid_of(spec, space)
    assert grid.total == 9
    study = optuna.create_study()
    assert visit(study, spec, space, grid, 9) == list(space.points())
    with pytest.raises(LookupError):
        grid.next(study)


def test_a_grid_goes_on_where_it_was_left_also_when_trials_failed_or_wait(
    read: Callable[..., SearchSpace], make_spec: Make
):
    space, spec = read(), make_spec(sampler=GRID)
    study = optuna.create_study()
    visit(study, spec, space, grid_of(spec, space), 3)
    points = list(space.points())
    study.tell(study.ask(), state=TrialState.FAIL)  # one that never had parameters
    study.enqueue_trial(space.to_stored(points[3]))
    interrupted = optuna.create_study()
    interrupted.add_trials(study.trials)
    grid = grid_of(spec, space)
    assert grid.next(interrupted) == space.to_stored(points[4])
    assert grid.next(interrupted) == space.to_stored(points[4])  # until a trial has it
    assert space.sample(interrupted.ask()) == points[3]
    assert visit(interrupted, spec, space, grid, 5) == points[4:]
    with pytest.raises(LookupError):
        grid.next(interrupted)


def test_points_that_were_enqueued_are_not_visited_again(read: Callable[..., SearchSpace], make_spec: Make):
    space, spec = read(), make_spec(sampler=GRID)
    grid = grid_of(spec, space)
    study = optuna.create_study()
    points = list(space.points())
    study.enqueue_trial(space.to_stored(points[7]))
    study.enqueue_trial(space.to_stored({"model": "linear"}))  # the sampler draws the rest
    study.sampler = build_sampler(spec.search, 0)
    assert space.sample(study.ask()) == points[7]
    drawn = space.sample(study.ask())
    rest = visit(study, spec, space, grid, 7)
    assert rest == [point for point in points if point not in (points[7], rounded(drawn))]


def test_a_value_that_is_one_step_of_rounding_away_is_the_same_point(read: Callable[..., SearchSpace], make_spec: Make):
    space = read({"rate": "range(0.1, 0.4, 0.1)"}, {})
    grid = grid_of(make_spec(sampler=GRID), space)
    study = optuna.create_study()
    study.enqueue_trial({"rate": 0.1})
    space.sample(study.ask())
    study.enqueue_trial({"rate": 0.1 + 0.1 + 0.1})
    space.sample(study.ask())
    assert grid.next(study) == {"rate": 0.2}


def test_ten_thousand_points_are_looked_at_once(read: Callable[..., SearchSpace], make_spec: Make):
    space = read({"rate": "range(0, 100)", "name": "range(0, 100)"}, {})
    grid = grid_of(make_spec(sampler=GRID), space)
    distributions = {parameter.name: parameter.distribution for parameter in space.parameters}
    looked_at = 0
    points = grid._points

    def counted() -> Any:
        nonlocal looked_at
        for point in points:
            looked_at += 1
            yield point

    grid._points = counted()
    study = optuna.create_study()
    for number in range(10_000):
        params = grid.next(study)
        assert params == {"rate": number // 100, "name": number % 100}
        study.add_trial(create_trial(params=params, distributions=distributions, value=1.0))
        assert len(grid._open) <= 1
    assert looked_at == 9_999


def test_a_search_space_of_its_own_says_what_is_visited(read: Callable[..., SearchSpace], make_spec: Make):
    space = read({"rate": "tag(log, interval(1e-3, 1))", "name": "a, b, c"}, {})
    spec = make_spec(sampler={**GRID, "search_space": {"rate": [0.1, 0.01], "name": ["c"]}})
    grid = grid_of(spec, space)
    assert grid.total == 2
    assert visit(optuna.create_study(), spec, space, grid, 2) == [
        {"rate": 0.1, "name": "c"},
        {"rate": 0.01, "name": "c"},
    ]


def test_brute_force_visits_every_point_once(read: Callable[..., SearchSpace], make_spec: Make):
    space, spec = read(), make_spec(sampler=BRUTE_FORCE)
    grid = grid_of(spec, space)
    assert grid.total == 9
    seen = visit(optuna.create_study(), spec, space, grid, 9)
    assert [rounded(params) for params in seen] != list(space.points())
    assert sorted(map(repr, map(rounded, seen))) == sorted(map(repr, space.points()))


def test_any_other_sampler_makes_no_grid(read: Callable[..., SearchSpace], make_spec: Make):
    assert Grid.of(make_spec().search, read()) is None
    assert Grid.of(make_spec(sampler={"_target_": "optuna.samplers.QMCSampler"}).search, read()) is None


@pytest.mark.parametrize("sampler", [GRID, BRUTE_FORCE])
def test_a_space_without_a_number_of_points_has_no_grid(
    read: Callable[..., SearchSpace], make_spec: Make, sampler: dict[str, Any]
):
    space = read({"name": "a, b", "rate": "interval(0, 1)"}, {})
    with pytest.raises(ConfigError, match=r"^digits\.yaml: rate: an interval has no .* range\(START, STOP, STEP\)"):
        Grid.of(make_spec(sampler=sampler).search, space)


@pytest.mark.parametrize(
    ("only", "told"),
    [
        ({"rote": [1]}, r"search_space: rote: it is not sampled; did you mean rate\?"),
        ({"rate": 0.1}, r"search_space: rate: '0.1' is no list of values"),
        ({"rate": [0.1, 7]}, "search_space: rate: 7 cannot be chosen; choose from 0.1 to 0.3 in steps of 0.1"),
    ],
)
def test_values_that_cannot_be_visited_are_refused(
    read: Callable[..., SearchSpace], make_spec: Make, only: dict[str, Any], told: str
):
    with pytest.raises(ConfigError, match=told):
        Grid.of(make_spec(sampler={**GRID, "search_space": only}).search, read())
