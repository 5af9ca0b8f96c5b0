"""Runs one trial that is not part of a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from besom.config.objectives import Objective
from besom.sweep.trials.trial import record_end, record_report, record_start
from besom.system.interrupts import interrupts
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.study_run import Status
from besom.tracking.tags import INTERRUPTED, Tag
from besom.workers.messages import Assignment, Blame, Bundle, Failure, Finished, Logged, Reported, Started, TrialResult
from besom.workers.pool import Died, Event, Pool


def follow(
    pool: Pool,
    recorder: Recorder,
    assignment: Assignment,
    card: RunCard,
    *,
    objectives: Sequence[Objective] = (),
    on_event: Callable[[Event], None] = lambda event: None,
) -> TrialResult | None:
    """Run a trial in the pool's first slot and record it; return its result, None if the user stopped it.

    `on_event` receives each event of the worker. A trial that did not start is not recorded.
    """
    trial, recorded = assignment.trial, False
    result: TrialResult | None = None
    pool.submit(pool.slots[0], Bundle(assignments=(assignment,)))
    with interrupts() as stop:
        while result is None and not stop.asked:
            for event in pool.events(timeout_s=0.1):
                match event:
                    case Started():
                        record_start(recorder, trial, card, event)
                        recorded = True
                    case Reported():
                        record_report(recorder, card.axis, event)
                    case Logged(log=log):
                        recorder.log(trial, log)
                    case Finished():
                        result = event.result
                    case Died(reason=reason):
                        result = TrialResult().failed(Failure(reason=reason, blame=Blame.USER))
                on_event(event)
    if result is None:
        pool.close()  # the worker would write files while they are recorded
        recorder.hurry()
    if recorded and result is None:
        recorder.finish(trial, Status.KILLED, tags={Tag.STATE: INTERRUPTED})
    elif recorded and result is not None:
        record_end(recorder, trial, result, objectives if result.values else ())
    return result
