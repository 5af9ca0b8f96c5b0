"""Recovery after a crash of the parent process: results in MLflow that the study's storage missed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from besom.config.objectives import BEST, Objective
from besom.config.units import EPOCH_METRIC, Unit
from besom.reports.read.finalists import FinalistRun, finalist_runs
from besom.sweep.fidelity import PrunerCount
from besom.sweep.spec_parts import SearchSpec
from besom.sweep.study.config import origin
from besom.sweep.study.study import StudyBook
from besom.tracking.recorder.recorder import Recorder
from besom.tracking.study_run import RecordedEnd
from besom.tracking.tags import Tag
from besom.tracking.writers.entries import to_key
from besom.workers.messages import Moment, State, TrialResult


def adopt_recorded(recorder: Recorder, book: StudyBook, search: SearchSpec) -> list[int]:
    """Finish waiting trials of the study whose runs are complete in MLflow; return their numbers.

    A trial is written to MLflow first, and to the study's storage a moment later. A process that dies in between leaves
    it waiting.
    """
    ends = recorder.ends(book.waiting())
    for number, end in sorted(ends.items()):
        counted = _counted(recorder, end, search) if search.pruner else {}
        book.adopt(number, _result(end, search.objectives), about_recorded(end), counted)
    return sorted(ends)


def _counted(recorder: Recorder, end: RecordedEnd, search: SearchSpec) -> dict[int, float]:
    """Return the objective's values as the pruner counted them."""
    values = sorted(recorder.history(end.run_id, search.objective.name).items())
    by_step = end.tags.get(Tag.AXIS) == Unit.STEP
    epochs = recorder.history(end.run_id, EPOCH_METRIC) if by_step else {number: float(number) for number, _ in values}
    count = PrunerCount(search.fidelity if epochs else Unit.STEP)  # another app has steps only
    found: dict[int, float] = {}
    for (number, value), after in zip_longest(values, [number for number, _ in values[1:]]):
        epoch = int(epochs.get(number, 0))
        moment = Moment(epoch=epoch, step=number, in_epoch=after is not None and epochs.get(after) == epoch)
        found |= dict([counted] if (counted := count.count(moment, value)) else [])
    return found


def adopt_finalists(recorder: Recorder, book: StudyBook, objectives: Sequence[Objective]) -> None:
    """Add finalists' runs to the study that are complete in MLflow and that it missed for the same reason."""
    known = {run.key for run in finalist_runs(book.study.user_attrs) if run.reason is None}
    names = (name for objective in objectives for name in (objective.best_metric, objective.test_metric))
    by_key = {to_key(name): name for name in names}
    for end in recorder.finalists():
        metrics = {by_key.get(key, key): value for key, value in end.metrics.items()}
        run = FinalistRun(
            trial=int(end.tags[Tag.FINALIST]),
            seed=int(end.tags[Tag.SEED]),
            run_id=end.run_id,
            metrics={name: value for name, value in metrics.items() if name.startswith((BEST, "test/", "cost/"))},
            duration_s=end.duration_s,
        )
        if run.key not in known:
            book.set_user_attr(run.key, run.plain())
            known.add(run.key)


def _result(end: RecordedEnd, objectives: tuple[Objective, ...]) -> TrialResult:
    state = State(end.tags[Tag.STATE])
    keys = [to_key(objective.best_metric) for objective in objectives]
    return TrialResult(
        state=state,
        values=tuple(end.metrics[key] for key in keys) if state is State.COMPLETE else (),
        constraints=json.loads(end.tags.get(Tag.CONSTRAINTS, "{}")),
        began_s=end.began_s,
        ended_s=end.ended_s,
    )


def about_recorded(end: RecordedEnd) -> dict[str, Any]:
    """Return the facts about a recorded trial for the report."""
    about = {"family": end.tags.get(Tag.FAMILY, "unknown"), "duration_s": end.duration_s, **origin(end.tags)}
    if Tag.REASON in end.tags:
        about["reason"] = end.tags[Tag.REASON]
    if Tag.BEST_EPOCH in end.tags:
        about["best_epoch"] = int(end.tags[Tag.BEST_EPOCH])
    return about
