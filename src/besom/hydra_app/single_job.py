"""A single job of another Hydra app, of which nothing is sampled: no study, and any return value."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.utils import JobReturn

from besom.config.objectives import Objective
from besom.config.units import Unit
from besom.errors import BesomError, Interrupted, TrialFailed
from besom.hydra_app.job import shown, unpack_job
from besom.reports.format import named
from besom.secrets.masks import hidden_override
from besom.sweep.trials.follow import follow
from besom.tracking.provenance import command_tags
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.tags import Tag
from besom.workers.messages import Assignment, Blame, Failure
from besom.workers.pool import Pool

REPRODUCES = "BESOM_REPRODUCES"
"""The environment variable with the recorded run that a job reproduces."""


def run_single_job(
    pool: Pool,
    recorder: Recorder,
    *,
    name: str,
    overrides: tuple[str, ...],
    directory: Path,
    tags: Mapping[str, str],
    objectives: Sequence[Objective],
) -> tuple[JobReturn, str]:
    """Run a job and record it with these tags; return what it returned, and the line about its result.

    `directory` is for the files to record, and is deleted afterwards.

    Raises TrialFailed when the job fails, Interrupted when the user stopped it.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        links = recorder.links()
        run_id = links.new_id() if links else None
        variables = links.variables(run_id) if links else {}
        assignment = Assignment(trial=0, overrides=overrides, directory=directory, variables=variables)
        tags = {
            **command_tags(),
            **tags,
            **({Tag.REPRODUCES: os.environ[REPRODUCES]} if REPRODUCES in os.environ else {}),
            Tag.OVERRIDES: " ".join(map(hidden_override, overrides)),
            Tag.DEVICE: str(pool.slots[0]),
        }
        card = RunCard(name=name, config={}, tags=tags, directory=directory, axis=Unit.STEP, run_id=run_id)
        result = follow(pool, recorder, assignment, card, objectives=objectives)
        if result is None:
            raise Interrupted
        recorder.flush()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if result.job is None:
        raise _error(result.failure)
    job = unpack_job(result.job)
    values = "  ".join(named(objectives, result.values)) or f"returned {shown(job.return_value)}"
    return job, f"job  {values}   ({result.duration_s or 0:.1f} s)"


def _error(failure: Failure | None) -> BesomError:
    if failure is None:
        return TrialFailed("the job ended itself with TrialPruned; nothing else had asked for that")
    if failure.blame is Blame.CODE and failure.traceback:
        sys.stderr.write(failure.traceback)
    return TrialFailed(failure.reason)
