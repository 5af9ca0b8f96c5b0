"""Texts that the screen and the log of a sweep have in common."""

from __future__ import annotations

from collections.abc import Sequence

from besom.config.objectives import Objective
from besom.reports.format import named
from besom.reports.read.failures import numbered
from besom.secrets.masks import mask
from besom.sweep.progress.events import Ended
from besom.workers.messages import Blame, State

_TRACEBACK_LINES = 4
STOPPING = "stopping: what runs may finish its epoch; ctrl-C again stops at once"


def result_text(objectives: Sequence[Objective], ended: Ended, reason: str | None) -> str:
    """Return a trial's result: its values, the report at which it was pruned, or the `reason` why it failed."""
    result = ended.result
    match result.state:
        case State.COMPLETE:
            values = "  ".join(named(objectives, result.values))
            return values if result.feasible else f"{values}, infeasible"
        case State.PRUNED:
            return f"pruned after {ended.axis} {ended.reached}" if ended.reached else "pruned"
        case State.FAIL:
            return f"FAILED: {reason or 'unknown'}"


def failure_details(ended: Ended) -> list[str]:
    """Return the last lines of a failed trial's traceback, and where to read more; none for an error of the user's."""
    failure = ended.result.failure
    if failure is None or failure.traceback is None or failure.blame is not Blame.CODE:
        return []
    lines = [line.rstrip() for line in failure.traceback.splitlines()]
    last = [line for line in lines if line.strip(" ^~")][-_TRACEBACK_LINES:]
    places = [f"log: {ended.log}"] if ended.log is not None else []
    places += [f"folder: {ended.folder}"] if ended.folder is not None else []
    return [*(f"    {mask(line)}" for line in last), *(["    " + "; ".join(places)] if places else [])]


def kept_runs_warning(count: int) -> str:
    """Return the warning that runs are kept as files, since the tracking server is unreachable."""
    which = f"{count} run{'s are' if count > 1 else ' is'}"
    return f"{which} not recorded yet, since the tracking server is away; the same command records what is kept of them"


def trial_numbers(trials: Sequence[int]) -> str:
    """Return the numbers of trials as text, only the first few of many."""
    return f"trial{'s' * (len(trials) > 1)} {numbered(trials)}"
