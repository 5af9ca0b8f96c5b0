"""A single job of another Hydra app, of which nothing is sampled: no study, and any return value."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from hydra.core.utils import JobReturn

from besom.config.units import Unit
from besom.errors import BesomError, Interrupted, TrialFailed
from besom.hydra_app.job import unpack_job
from besom.secrets.masks import hidden_override
from besom.sweep.trials.follow import follow
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.tags import Tag
from besom.workers.messages import Assignment, Blame, Failure
from besom.workers.pool import Pool


def run_single_job(
    pool: Pool, recorder: Recorder, *, name: str, overrides: tuple[str, ...], directory: Path
) -> JobReturn:
    """Run a job and record it; `directory` is for the files to record, and is deleted afterwards.

    Raises TrialFailed when the job fails, Interrupted when the user stopped it.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        assignment = Assignment(trial=0, overrides=overrides, directory=directory)
        tags = {Tag.OVERRIDES: " ".join(map(hidden_override, overrides)), Tag.DEVICE: str(pool.slots[0])}
        card = RunCard(name=name, config={}, tags=tags, directory=directory, axis=Unit.STEP)
        result = follow(pool, recorder, assignment, card)
        if result is None:
            raise Interrupted
        recorder.flush()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if result.job is None:
        raise _error(result.failure)
    return unpack_job(result.job)


def _error(failure: Failure | None) -> BesomError:
    if failure is None:
        return TrialFailed("the job ended itself with TrialPruned; nothing else had asked for that")
    if failure.blame is Blame.CODE and failure.traceback:
        sys.stderr.write(failure.traceback)
    return TrialFailed(failure.reason)
