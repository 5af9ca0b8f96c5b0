"""A single job of another Hydra app, of which nothing is sampled: no study, and any return value."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn

from besom.errors import BesomError, Interrupted, TrialFailed
from besom.hydra_app.job import unpack_job
from besom.secrets.masks import hidden_override
from besom.system.interrupts import interrupts
from besom.system.source_file import SourceFile
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.study_run import Status
from besom.tracking.tags import INTERRUPTED, Tag
from besom.workers.messages import Assignment, Blame, Bundle, Failure, Finished, Reported, Started, State
from besom.workers.pool import Died, Pool

_TRIAL = 0


def run_single_job(
    pool: Pool, recorder: Recorder, *, name: str, overrides: tuple[str, ...], directory: Path
) -> JobReturn:
    """Run a job and record it; `directory` is for the files to record, and is deleted afterwards.

    Raises TrialFailed when the job fails, Interrupted when the user stopped it.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        assignment = Assignment(trial=_TRIAL, overrides=overrides, directory=directory)
        pool.submit(pool.slots[0], Bundle(assignments=(assignment,)))
        tags = {Tag.OVERRIDES: " ".join(map(hidden_override, overrides)), Tag.DEVICE: str(pool.slots[0])}
        finished = _follow(pool, recorder, RunCard(name=name, config={}, tags=tags, directory=directory))
        recorder.flush()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if finished.outcome is None or finished.outcome.job is None:
        raise _error(finished.failure)
    return unpack_job(finished.outcome.job)


def _follow(pool: Pool, recorder: Recorder, card: RunCard) -> Finished:
    recorded, finished = False, None
    with interrupts() as stop:
        while finished is None and not stop.asked:
            for event in pool.events(timeout_s=0.1):
                match event:
                    case Started(about=about, began_s=began_s, sources=sources):
                        _start(recorder, replace(card, began_s=began_s), about, sources)
                        recorded = True
                    case Reported(epoch=epoch, metrics=metrics, time_s=time_s):
                        recorder.report(_TRIAL, epoch, metrics, time_s)
                    case Finished():
                        finished = event
                    case Died(reason=reason):
                        failure = Failure(reason=reason)
                        finished = Finished(trial=_TRIAL, state=State.FAIL, duration_s=0.0, failure=failure)
    if finished is None:
        pool.close()  # the job would write files while they are recorded
    if recorded:
        _end(recorder, finished)
    if finished is None:
        raise Interrupted
    return finished


def _start(recorder: Recorder, card: RunCard, about: Mapping[str, Any], sources: Sequence[SourceFile] | None) -> None:
    facts = dict(about)
    recorder.start(_TRIAL, replace(card, config=facts.pop("config", {})), facts, sources)


def _end(recorder: Recorder, finished: Finished | None) -> None:
    ended_s = finished.ended_s if finished else None
    match finished:
        case None:
            recorder.finish(_TRIAL, Status.KILLED, tags={Tag.STATE: INTERRUPTED})
        case Finished(failure=Failure(reason=reason, traceback=traceback)):
            tags = {Tag.STATE: State.FAIL, Tag.REASON: reason}
            recorder.finish(_TRIAL, Status.FAILED, tags=tags, traceback=traceback or reason, ended_s=ended_s)
        case Finished(state=State.PRUNED):
            recorder.finish(_TRIAL, Status.KILLED, tags={Tag.STATE: State.PRUNED}, ended_s=ended_s)
        case Finished():
            recorder.finish(_TRIAL, Status.FINISHED, tags={Tag.STATE: State.COMPLETE}, ended_s=ended_s)


def _error(failure: Failure | None) -> BesomError:
    if failure is None:
        return TrialFailed("the job ended itself with TrialPruned; nothing else had asked for that")
    if failure.blame is Blame.CODE and failure.traceback:
        sys.stderr.write(failure.traceback)
    return TrialFailed(failure.reason)
