"""The study of a sweep: opened or resumed, asked for trials and told their results by this process only.

A new sampler is built for each trial from the seed and the trial's number, so that a resumed sweep asks for the same
trials as an uninterrupted one.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from besom.config.objectives import Objective
from besom.config.units import Unit
from besom.errors import ConfigError
from besom.reports.read.pareto import Front
from besom.reports.read.trials import is_feasible
from besom.secrets.masks import hidden_override
from besom.sweep.space.search_space import Params, SearchSpace
from besom.sweep.spec import SweepSpec, storage_url
from besom.sweep.spec_parts import BudgetSpec, SearchSpec
from besom.sweep.study.book import Asked, Book
from besom.sweep.study.grid import Grid
from besom.sweep.study.lock import lock_study
from besom.sweep.study.samplers import build_pruner, build_sampler
from besom.sweep.study.storage import TrialStorage, forget_attempt, open_storage
from besom.system.urls import sqlite_file
from besom.tracking.tags import StudyAttribute, TrialAttribute
from besom.workers.messages import State, TrialResult


class StudyBook(Book):
    """Asks and tells one study, and counts its trials."""

    def __init__(self, trial_storage: TrialStorage, search: SearchSpec, budget: BudgetSpec, space: SearchSpace) -> None:
        self._trial_storage = trial_storage
        self._search = search
        self._budget = budget
        self._space = space
        self._grid = Grid.of(search, space)
        self._trials: dict[int, Trial] = {}  # asked for, and not told yet
        self._unfinished: set[int] = set()  # in the storage
        self.study = trial_storage.study
        self.study.pruner = build_pruner(search)
        finished = sorted(finished_trials(self.study), key=_ended_s)
        self._done = len(finished)
        self._patience = _Patience(search.objectives)
        for trial in finished:
            self._patience.add(trial)

    @property
    def total(self) -> int | None:
        """The number of trials of the study when it is complete; None for no end."""
        limits = [self._budget.n_trials, self._grid.total if self._grid else None]
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def done(self) -> int:
        """The number of finished trials: complete, pruned or failed."""
        return self._done

    @property
    def ran_out_of_patience(self) -> bool:
        """True if the last `patience` trials were no better than the ones before."""
        return self._budget.patience is not None and self._patience.since_best >= self._budget.patience

    def waiting(self) -> list[int]:
        """Return the numbers of the enqueued and interrupted trials, which run before any new one."""
        return [trial.number for trial in self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))]

    def ask(self) -> Asked:
        """Ask for the next trial; enqueued and interrupted ones come first, with their own numbers."""
        waiting = self.waiting()
        number = waiting[0] if waiting else len(self.study.get_trials(deepcopy=False))
        self.study.sampler = build_sampler(self._search, number, self._space)
        if self._grid is not None and not waiting and (point := self._grid.next(self.study)):
            self.study.enqueue_trial(point)
        trial = self.study.ask()
        self._trials[trial.number] = trial
        return Asked(number=trial.number, params=self._space.sample(trial))

    def write_asked(self, number: int, overrides: Sequence[str]) -> None:
        """Write an asked trial to the storage, with the Hydra overrides of its parameters."""
        hidden = [hidden_override(override) for override in overrides]
        self._trials[number].set_user_attr(TrialAttribute.OVERRIDES, hidden)
        self._trial_storage.write_asked(number)
        self._unfinished.add(number)

    def report(self, number: int, step: int, value: float) -> bool:
        """Report the objective's value of a trial at a step; return whether the trial should be pruned."""
        self._trials[number].report(value, step)
        return self._trials[number].should_prune()

    def forget(self, number: int) -> None:
        """Remove the reported values of a trial before its next attempt."""
        for frozen in (self._trial_storage.trial(number), self._trials[number]._cached_frozen_trial):
            forget_attempt(frozen)

    def tell(self, number: int, result: TrialResult, about: Mapping[str, Any]) -> None:
        """Tell the study the result of a trial, and facts about it for the report; `settle` writes them to the storage.

        A trial without times began when it was asked for, and ends now.
        """
        trial = self._trials.pop(number)
        self._done += 1
        trial.set_user_attr(TrialAttribute.ABOUT, dict(about))
        set_constraints(trial, result.constraints)
        try:
            if result.state is State.COMPLETE:
                self.study.tell(trial, list(result.values))
            else:
                self.study.tell(trial, state=TrialState[result.state])
        except RuntimeError:
            # An exhausted sampler calls `study.stop()`, which Optuna allows only inside `optimize`. The trial is
            # already told at that point.
            if not self._trial_storage.trial(number).state.is_finished():
                raise
        self._trial_storage.set_times(number, result.began_s, result.ended_s)
        self._patience.add(self._trial_storage.trial(number))

    def settle(self, number: int, *, kept: bool = False) -> None:
        """Write a finished trial to the storage; one whose run is `kept` is over as well."""
        self._trial_storage.write_finished(number)
        self._unfinished.discard(number)

    def adopt(self, number: int, result: TrialResult, about: Mapping[str, Any], values: Mapping[int, float]) -> None:
        """Finish a waiting trial by its recorded result, which the storage missed; `values` are by step."""
        trial = next(
            trial for trial in self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            if trial.number == number
        )  # fmt: skip
        self.study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        self._trials[number] = Trial(self.study, trial._trial_id)
        for step, value in values.items():
            self.report(number, step, value)
        self.tell(number, result, about)
        self.settle(number)

    def release(self) -> None:
        """Write to the storage that all unfinished trials wait to be run again."""
        for number in sorted(self._unfinished):
            self._trial_storage.write_waiting(number)
        self._unfinished.clear()

    def enqueue(self, params: Sequence[Params]) -> None:
        """Enqueue sets of parameters, which may be partial, unless a trial has them already."""
        for point in params:
            before = len(self.study.get_trials(deepcopy=False))
            self.study.enqueue_trial(self._space.to_stored(point), skip_if_exists=True)
            if len(self.study.get_trials(deepcopy=False)) > before:
                self._trial_storage.write_asked(before)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Set an attribute of the study."""
        self._trial_storage.set_user_attr(key, value)


def set_constraints(trial: Trial, constraints: Mapping[str, float]) -> None:
    """Set the constraints of an unfinished trial where Optuna's samplers read them."""
    if hasattr(Trial, "set_constraint"):
        for key, value in constraints.items():
            trial.set_constraint(key, value)
    elif constraints:  # before Optuna 5: a list, read by `constraints_func`; see besom.sweep.study.samplers
        trial.storage.set_trial_system_attr(trial._trial_id, "constraints", list(constraints.values()))


class _Patience:
    """Counts the trials since the best one, in the order of their ends."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.since_best = 0
        self._front = Front(objectives)
        self._seen: set[tuple[float, ...]] = set()  # an equally good trial is no improvement

    def add(self, trial: FrozenTrial) -> None:
        """Count a finished trial."""
        good = trial.state is TrialState.COMPLETE and is_feasible(trial)
        values = tuple(trial.values) if good else ()
        better = good and values not in self._seen and self._front.add(trial.number, values)
        self._seen.add(values)
        self.since_best = 0 if better else self.since_best + 1


@contextmanager
def open_study(spec: SweepSpec, space: SearchSpace, directory: Path) -> Iterator[StudyBook]:
    """Create or resume the study, and lock it against a second process meanwhile.

    Raises StoreError when the storage cannot be used or another process has locked the study, ConfigError when the
    study was created for another search space or objective.
    """
    storage = spec.storage or storage_url(directory)
    url = storage if isinstance(storage, str) else str(storage.get("_target_"))
    directions = [StudyDirection[objective.direction.upper()] for objective in spec.search.objectives]
    with lock_study(spec.study_name, spec.storage, directory) as lock:
        with lock.creating():
            trial_storage = TrialStorage(open_storage(storage), url, spec.study_name, directions)
        try:
            _check_same(trial_storage, spec.search, space)
            book = StudyBook(trial_storage, spec.search, spec.budget, space)
            try:
                yield book
            finally:
                book.release()
        finally:
            trial_storage.close()


def own_name(spec: SweepSpec, space: SearchSpace, fixed: Sequence[str], directory: Path) -> str:
    """Return the study's name, or the first of NAME-2, NAME-3 and so on that no other sweep of the app has.

    Another sweep has another search space or objective, or other `fixed` overrides. Raises StoreError when the storage
    cannot be used.
    """
    storage = spec.storage or storage_url(directory)
    file = sqlite_file(storage) if isinstance(storage, str) else None
    if file is not None and not file.exists():
        return spec.study_name
    opened = open_storage(storage)
    try:
        others = (f"{spec.study_name}-{number}" for number in itertools.count(2))
        names = itertools.chain([spec.study_name], others)
        return next(name for name in names if _is_own(_attributes(opened, name), spec, space, fixed))
    finally:
        opened.remove_session()


def _attributes(storage: BaseStorage, name: str) -> Mapping[str, Any]:
    try:
        return storage.get_study_user_attrs(storage.get_study_id_from_name(name))
    except KeyError:
        return {}


def _is_own(attributes: Mapping[str, Any], spec: SweepSpec, space: SearchSpace, fixed: Sequence[str]) -> bool:
    """Return whether nothing in a study's attributes tells its sweep apart."""
    described = attributes.get(StudyAttribute.SPEC) or {}
    recorded = {"fixed": described.get("fixed", list(fixed)), **attributes}
    wanted = json.loads(json.dumps({"fixed": list(fixed), **_identity(spec.search, space)}))
    return all(recorded.get(key, value) == value for key, value in wanted.items())


def _ended_s(trial: FrozenTrial) -> float:
    """Return the end of a trial in seconds since the epoch, infinity if unknown."""
    return trial.datetime_complete.timestamp() if trial.datetime_complete else math.inf


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the finished trials by number."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def _identity(search: SearchSpec, space: SearchSpace) -> dict[str, Any]:
    """Return the attributes of a study that each sweep of it must have."""
    return {StudyAttribute.SPACE: space.signature(), StudyAttribute.OBJECTIVE: ", ".join(map(str, search.objectives))}


def _check_same(trial_storage: TrialStorage, search: SearchSpec, space: SearchSpace) -> None:
    now = _identity(search, space)
    study = trial_storage.study
    directions = [direction.name.lower() for direction in study.directions]
    wanted = [objective.direction for objective in search.objectives]
    attributes = study.user_attrs
    if StudyAttribute.OBJECTIVE not in attributes and directions != wanted:  # created by another program
        raise _refused(study, search.source, "objective", _difference(", ".join(directions), ", ".join(wanted)))
    for key, value in now.items():
        before, is_space = attributes.get(key), key == StudyAttribute.SPACE
        if before is None or (is_space and before != value and not study.get_trials(deepcopy=False)):
            trial_storage.set_user_attr(key, value)  # a study without trials may change
        elif before != json.loads(json.dumps(value)):
            what = "search space" if is_space else "objective"
            raise _refused(study, search.source, what, _difference(before, value))
    counted = attributes.get(StudyAttribute.FIDELITY, Unit.EPOCH)
    if counted != search.fidelity:
        if study.get_trials(deepcopy=False):
            raise _refused(study, search.source, "fidelity", _difference(f"{counted}s", f"{search.fidelity}s"))
        trial_storage.set_user_attr(StudyAttribute.FIDELITY, str(search.fidelity))


def _refused(study: optuna.Study, source: str, what: str, difference: str) -> ConfigError:
    return ConfigError(
        f"{source}: study '{study.study_name}' was started with another {what} ({difference}); "
        "choose another hydra.sweeper.study_name, or undo the change"
    )


def _difference(before: Any, now: Any) -> str:
    if not isinstance(before, dict):
        return f"it was {before}, it is {now}"
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return "; ".join(f"{key}: was {before.get(key, 'not there')}, is {now.get(key, 'not there')}" for key in changed)
