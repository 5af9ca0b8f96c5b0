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
from besom.sweep.trials.trial import record_end
from besom.system.interrupts import interrupts
from besom.system.source_file import SourceFile
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.study_run import Status
from besom.tracking.tags import INTERRUPTED, Tag
from besom.workers.messages import Assignment, Blame, Bundle, Failure, Finished, Reported, Started, TrialResult
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
        result = _follow(pool, recorder, RunCard(name=name, config={}, tags=tags, directory=directory))
        recorder.flush()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if result.job is None:
        raise _error(result.failure)
    return unpack_job(result.job)


def _follow(pool: Pool, recorder: Recorder, card: RunCard) -> TrialResult:
    recorded = False
    result: TrialResult | None = None
    with interrupts() as stop:
        while result is None and not stop.asked:
            for event in pool.events(timeout_s=0.1):
                match event:
                    case Started(about=about, began_s=began_s, sources=sources):
                        _start(recorder, replace(card, began_s=began_s), about, sources)
                        recorded = True
                    case Reported(epoch=epoch, metrics=metrics, time_s=time_s):
                        recorder.report(_TRIAL, epoch, metrics, time_s)
                    case Finished():
                        result = event.result
                    case Died(reason=reason):
                        result = TrialResult().failed(Failure(reason=reason))
    if result is None:
        pool.close()  # the job would write files while they are recorded
    if recorded and result is None:
        recorder.finish(_TRIAL, Status.KILLED, tags={Tag.STATE: INTERRUPTED})
    elif recorded and result is not None:
        record_end(recorder, _TRIAL, result)
    if result is None:
        raise Interrupted
    return result


def _start(recorder: Recorder, card: RunCard, about: Mapping[str, Any], sources: Sequence[SourceFile] | None) -> None:
    facts = dict(about)
    recorder.start(_TRIAL, replace(card, config=facts.pop("config", {})), facts, sources)


def _error(failure: Failure | None) -> BesomError:
    if failure is None:
        return TrialFailed("the job ended itself with TrialPruned; nothing else had asked for that")
    if failure.blame is Blame.CODE and failure.traceback:
        sys.stderr.write(failure.traceback)
    return TrialFailed(failure.reason)
