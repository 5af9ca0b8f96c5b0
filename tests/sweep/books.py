"""Study books on real databases, for tests of what a study writes and how it resumes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy import event

from besom.reports.read.trials import constraints_of
from besom.sweep.space.search_space import Params, SearchSpace
from besom.sweep.spec import SweepSpec
from besom.sweep.study.book import Asked
from besom.sweep.study.storage import TrialStorage, open_storage
from besom.sweep.study.study import StudyBook
from besom.workers.messages import Failure, State, TrialResult

PARAMS = {"rate": "tag(log, interval(1e-3, 1))", "size": "range(1, 20)", "db": "choice(small, large)"}
WHEN = {"db=large": {"db.shards": "range(1, 9)"}}

SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 2, "group": True, "multivariate": True},
    "random": {"_target_": "optuna.samplers.RandomSampler"},
    "cmaes": {"_target_": "optuna.samplers.CmaEsSampler", "popsize": 4, "n_startup_trials": 2},
    "nsgaii": {"_target_": "optuna.samplers.NSGAIISampler", "population_size": 2},
    "qmc": {"_target_": "optuna.samplers.QMCSampler", "scramble": True},
}
HYPERBAND = {"_target_": "optuna.pruners.HyperbandPruner", "min_resource": 1, "max_resource": 4, "reduction_factor": 2}
EPOCHS = 4


class Killed(BaseException):
    """Simulates the death of the process."""


def dying_after(storage: RDBStorage, writes: int) -> RDBStorage:
    """Let a storage raise Killed after this number of writes."""
    left = iter(range(writes))

    def dying(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")) and next(left, None) is None:
            raise Killed

    event.listen(storage.engine, "before_cursor_execute", dying)
    return storage


class Folder:
    """A database, whose study is opened by one simulated process after another."""

    def __init__(self, path: Path, spec: SweepSpec, space: SearchSpace) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self.spec = spec
        self.space = space

    @contextmanager
    def book(self, *, writes: int | None = None, patience_s: float = 10) -> Iterator[StudyBook]:
        """Open the book of a new process; like a dying one, it releases nothing at the end."""
        storage = open_storage(self.url, patience_s=patience_s)
        assert isinstance(storage, RDBStorage)
        if writes is not None:
            storage = dying_after(storage, writes)
        directions = [StudyDirection[one.direction.upper()] for one in self.spec.search.objectives]
        try:
            trial_storage = TrialStorage(storage, self.url, "digits", directions)
            yield StudyBook(trial_storage, self.spec.search, self.spec.budget, self.space)
        finally:
            storage.remove_session()
            storage.engine.dispose()

    @property
    def study(self) -> optuna.Study:
        """The study as another process reads it."""
        return optuna.load_study(study_name="digits", storage=self.url)


def value(params: Params, epoch: int = EPOCHS) -> float:
    return (float(params["rate"]) + 0.01 * int(params["size"]) + 0.1 * int(params.get("db.shards", 0))) * epoch


def ask(book: StudyBook) -> Asked:
    """Ask for a trial as the scheduler does, but without overrides."""
    asked = book.ask()
    book.write_asked(asked.number, [])
    return asked


def tell(book: StudyBook, asked: Asked, result: TrialResult) -> None:
    """Tell the book a result, with facts for the report."""
    book.tell(asked.number, result, {"epochs": EPOCHS, "reason": result.reason})


def run_one_slot(folder: Folder, book: StudyBook, *, late: bool = False) -> None:
    """Run a sweep of one slot, which asks for the next trial while one trains.

    With `late`, a trial is settled only when the next one already trains.
    """
    unsettled: list[int] = []
    ahead: Asked | None = None
    while book.done < folder.spec.budget.n_trials:
        current = ahead or ask(book)
        ahead = ask(book) if book.done + 1 < folder.spec.budget.n_trials else None
        while unsettled:
            book.settle(unsettled.pop())
        tell(book, current, train(folder, book, current))
        unsettled.append(current.number)
        if not late:
            book.settle(unsettled.pop())
    for number in unsettled:
        book.settle(number)


def train(folder: Folder, book: StudyBook, asked: Asked) -> TrialResult:
    """Return the result of a trial after its epochs; every third one fails, and the pruner may stop it early."""
    for epoch in range(1, EPOCHS + 1):
        if folder.spec.search.pruner and book.report(asked.number, epoch, value(asked.params, epoch)):
            return TrialResult(state=State.PRUNED)
    if asked.number % 3 == 2:
        return TrialResult(state=State.FAIL, failure=Failure(reason="no luck"))
    return TrialResult(values=(value(asked.params),), constraints={"size": asked.params["size"] - 15.0})


def attributes(trial: FrozenTrial) -> dict[str, Any]:
    """Return all attributes of a trial except its times."""
    return {
        "number": trial.number,
        "state": trial.state.name,
        "params": trial.params,
        "distributions": trial.distributions,
        "values": trial.values,
        "steps": trial.intermediate_values,
        "user": trial.user_attrs,
        "system": trial.system_attrs,
        "constraints": constraints_of(trial),
    }


def history(study: optuna.Study) -> list[dict[str, Any]]:
    return [attributes(trial) for trial in study.get_trials(deepcopy=False)]


def spec_of(name: str) -> dict[str, Any]:
    sampler, _, pruner = name.partition(" with ")
    return {"sampler": SAMPLERS[sampler], "pruner": HYPERBAND if pruner else {}}
