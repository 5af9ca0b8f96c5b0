"""The storage of a study, however the writing process ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.study import StudyDirection
from optuna.trial import TrialState

from besom.reports.read.trials import constraints_of
from besom.sweep.space.search_space import Params
from besom.sweep.study.book import Asked
from besom.sweep.study.study import StudyBook
from besom.workers.messages import State, TrialResult
from tests.sweep.books import Folder, Killed, ask, history, run_one_slot, spec_of, tell, train, value

pytestmark = [
    pytest.mark.filterwarnings("ignore:Constraints have been set:UserWarning"),  # by CMA-ES, which ignores them
    pytest.mark.slow,
]


# The written rows.


@pytest.mark.parametrize("name", ["tpe", "nsgaii", "tpe with hyperband", "cmaes"])
def test_what_is_written_is_what_optuna_reads(folder: Callable[..., Folder], name: str):
    if name == "cmaes":
        pytest.importorskip("cmaes")
    swept = folder(**spec_of(name))
    with swept.book() as book:
        run_one_slot(swept, book)
        in_memory = history(book.study)
    read = swept.study
    assert history(read) == in_memory
    assert read.direction is StudyDirection.MAXIMIZE
    assert [trial.number for trial in read.trials] == list(range(8))
    if optuna.__version__ >= "5":  # with seed 4 and Hyperband, no trial fails
        assert {"COMPLETE", "FAIL"} <= {trial.state.name for trial in read.trials}
    for trial in read.trials:
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        assert trial.datetime_start <= trial.datetime_complete
        assert bool(trial.intermediate_values) == bool(swept.spec.search.pruner)
        assert trial.user_attrs["besom"]["epochs"] >= 1
        if trial.state is TrialState.COMPLETE:
            assert constraints_of(trial) == [trial.params["size"] - 15.0]
    if "nsgaii" in name:
        assert all("NSGAIISampler:generation" in trial.system_attrs for trial in read.trials)


@pytest.mark.usefixtures("elsewhere")
def test_when_a_trial_ran_is_read_as_it_was_in_any_time_zone(folder: Callable[..., Folder]):
    swept, began_s = folder(), time.time() - 3600
    with swept.book() as book:
        over, running = ask(book), ask(book)
        tell(book, over, TrialResult(state=State.PRUNED, began_s=began_s, ended_s=began_s + 2.5))
        book.settle(over.number)
        as_optuna = swept.study.ask()  # written by Optuna itself
    (first, second, third) = swept.study.trials
    assert (first.datetime_start, first.datetime_complete) == tuple(
        datetime.fromtimestamp(moment) for moment in (began_s, began_s + 2.5)
    )
    assert as_optuna.number == third.number
    assert running.number == second.number
    assert second.datetime_start is not None
    assert third.datetime_start is not None
    assert abs(second.datetime_start - third.datetime_start) < timedelta(minutes=5)
    assert abs(second.datetime_start.timestamp() - time.time()) < 300


def test_a_trial_is_in_the_storage_with_its_parameters_as_soon_as_it_is_asked(folder: Callable[..., Folder]):
    swept = folder()
    with swept.book() as book:
        asked = book.ask()
        book.write_asked(asked.number, [f"rate={asked.params['rate']}"])
        (trial,) = swept.study.trials
        assert trial.state is TrialState.RUNNING
        assert trial.params == book.study.trials[asked.number].params
        assert trial.user_attrs == {"besom.overrides": [f"rate={asked.params['rate']}"]}


# Dying processes.


NAMES = ["tpe", "random", "cmaes", "nsgaii", "qmc", "tpe with hyperband"]


Histories = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def histories() -> Histories:
    """Return the histories of uninterrupted sweeps by name, filled on first use."""
    return {}


def uninterrupted(histories: Histories, folder: Callable[..., Folder], name: str) -> list[dict[str, Any]]:
    if "cmaes" in name:
        pytest.importorskip("cmaes")
    if name not in histories:
        swept = folder(**spec_of(name))
        with swept.book() as book:
            run_one_slot(swept, book)
        histories[name] = history(swept.study)
    return histories[name]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deaths=st.lists(st.integers(0, 60), min_size=1, max_size=3), late=st.booleans())
def test_a_sweep_of_one_slot_comes_to_the_same_wherever_its_process_is_killed(
    folder: Callable[..., Folder],
    histories: Histories,
    name: str,
    deaths: list[int],
    late: bool,
):
    expected = uninterrupted(histories, folder, name)
    swept = folder(**spec_of(name))
    for writes in deaths:
        with suppress(Killed), swept.book(writes=writes) as book:
            run_one_slot(swept, book, late=late)
    with swept.book() as book:
        run_one_slot(swept, book)
    assert history(swept.study) == expected


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_a_sweep_of_one_slot_comes_to_the_same_wherever_it_is_stopped_in_order(
    folder: Callable[..., Folder], histories: Histories, name: str, stops: list[int]
):
    expected = uninterrupted(histories, folder, name)
    swept = folder(**spec_of(name))
    for trials in stops:
        with swept.book() as book:
            ahead: Asked | None = None
            for _ in range(min(trials, swept.spec.budget.n_trials - book.done)):
                current = ahead or ask(book)
                ahead = ask(book) if book.done + 1 < swept.spec.budget.n_trials else None
                tell(book, current, train(swept, book, current))
                book.settle(current.number)
            book.release()
        assert TrialState.RUNNING not in [trial.state for trial in swept.study.trials]
    with swept.book() as book:
        run_one_slot(swept, book)
    assert history(swept.study) == expected


ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["ask", "release", "crash"]), st.just(0)),
    st.tuples(st.sampled_from(["report", "complete", "prune", "fail", "settle"]), st.integers(0, 3)),
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTIONS, max_size=30))
def test_whatever_happens_every_trial_is_there_once_with_the_parameters_it_had(
    folder: Callable[..., Folder], actions: list[tuple[str, int]]
):
    swept = folder(**spec_of("tpe with hyperband"), n_trials=6)
    first: dict[int, Params] = {}  # the first parameters of each trial
    ends: dict[int, str] = {}  # the states of settled trials
    left = iter(actions)
    done = False
    while not done:
        with swept.book() as book:
            done = perform(swept, book, left, first, ends) != "crash"
            if done:
                book.release()
        trials = swept.study.trials
        assert [trial.number for trial in trials] == list(range(len(first)))
        assert [trial.params for trial in trials] == [swept.space.to_stored(first[number]) for number in sorted(first)]
        assert {trial.number: trial.state.name for trial in trials if trial.state.is_finished()} == ends
    with swept.book() as book:
        assert book.done == len(ends)
        run_one_slot(swept, book)
    trials = swept.study.trials
    assert len(trials) == 6
    assert all(trial.state.is_finished() for trial in trials)
    for number, params in first.items():
        assert trials[number].params == swept.space.to_stored(params)
    for number, state in ends.items():
        assert trials[number].state.name == state


def perform(
    folder: Folder,
    book: StudyBook,
    actions: Iterator[tuple[str, int]],
    first: dict[int, Params],
    ends: dict[int, str],
) -> str:
    """Perform the actions of one process; return why it ended."""
    running: list[Asked] = []
    ended: list[tuple[int, str]] = []
    epochs: dict[int, int] = {}
    for action, index in actions:
        if action in ("release", "crash"):
            if action == "release":
                book.release()
            return "crash"
        if action == "ask" and book.done + len(running) < folder.spec.budget.n_trials and len(running) < 3:
            asked = ask(book)
            assert asked.params == first.setdefault(asked.number, asked.params)
            running.append(asked)
        elif action == "settle" and index < len(ended):
            number, state = ended.pop(index)
            book.settle(number)
            ends[number] = state
        elif action == "report" and index < len(running):
            asked = running[index]
            epochs[asked.number] = epochs.get(asked.number, 0) + 1
            book.report(asked.number, epochs[asked.number], value(asked.params, epochs[asked.number]))
        elif action in STATES and index < len(running):
            asked = running.pop(index)
            state = STATES[action]
            values = (value(asked.params),) if state is State.COMPLETE else ()
            tell(book, asked, TrialResult(state=state, values=values, constraints={"size": 0.0}))
            ended.append((asked.number, state.name))
    return "over"


STATES = {"complete": State.COMPLETE, "prune": State.PRUNED, "fail": State.FAIL}
