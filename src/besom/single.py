"""One run of its own, outside any study: what `besom train` and `besom reproduce` share.

It takes the same way as a sweep's trial (a fresh worker, the same messages, the same recorder), so that a
trial that is trained again alone sees nothing different.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from besom.config import check, recordable, resolved
from besom.errors import BesomError, Interrupted, TrainingCrashed
from besom.tracking.nothing import NoRecorder
from besom.tracking.provenance import code_tags
from besom.tracking.recorder import Recorder, RunCard, Status
from besom.tracking.store import Location
from besom.trial import family, for_slot, interrupts
from besom.workers.devices import find_slots
from besom.workers.messages import Assignment, Bundle, Finished, Reported, Started, State
from besom.workers.pool import Died, Launcher, WorkerPool, launch

EXPERIMENT = "train"
_TRIAL = 0
_LINES = 20  # epochs that are told of, at most


@dataclass
class SingleRun:
    """A run that was trained: its id, what was built, its metrics by epoch, and how it ended."""

    run_id: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    history: dict[int, Mapping[str, float]] = field(default_factory=dict)
    finished: Finished | None = None


def run_single(
    config: DictConfig,
    *,
    name: str,
    tags: Mapping[str, str],
    location: Location,
    console: Console,
    launcher: Launcher = launch,
) -> SingleRun:
    """Train a composed config in a fresh worker and record it.

    Raises BesomError for what the user can mend (nothing is recorded if training had not started), Interrupted
    on ctrl-C, TrainingCrashed for anything else that training raised.
    """
    check(config)
    location.prepare()
    (slot,) = find_slots(config.trainer.accelerator, limit=1)
    config = for_slot(config, slot, test=config.test)
    plain = resolved(config)
    run = SingleRun()
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=_made(location.directory / "scratch")))
    card = RunCard(
        name=name,
        config=recordable(config),
        tags={"besom.family": family(config), **code_tags(), **tags},
        directory=scratch,
    )
    recorder = Recorder(location, config.tracking.experiment or EXPERIMENT) if config.tracking.enabled else NoRecorder()
    try:
        with WorkerPool([slot], logs=location.directory / "logs" / "train", launcher=launcher) as pool, recorder:
            assignment = Assignment(trial=_TRIAL, config=plain, directory=scratch)
            pool.submit(slot, Bundle(assignments=(assignment,)))
            _follow(run, pool, recorder, card, console, epochs=config.trainer.max_epochs)
            if run.about:
                run.run_id = recorder.run_id(_TRIAL)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return _judged(run)


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _follow(
    run: SingleRun, pool: WorkerPool, recorder: Recorder, card: RunCard, console: Console, *, epochs: int
) -> None:
    every = max(1, epochs // _LINES)
    with interrupts() as stop:
        while run.finished is None and not stop.asked:
            for event in pool.events(timeout_s=0.1):
                match event:
                    case Started(about=about):
                        run.about = about
                        recorder.start(_TRIAL, card, about)
                        _tell_start(console, about)
                    case Reported(epoch=epoch, metrics=metrics, time_s=time_s):
                        run.history[epoch] = metrics
                        recorder.report(_TRIAL, epoch, metrics, time_s)
                        if epoch % every == 0 or epoch == epochs:
                            _tell_epoch(console, epoch, epochs, metrics)
                    case Finished() as finished:
                        run.finished = finished
                    case Died(reason=reason):
                        run.finished = Finished(
                            trial=_TRIAL, state=State.FAIL, duration_s=0.0, reason=reason, user_error=True
                        )
    if run.finished is None:
        pool.close()  # what is still training would write beside the recorder
    if run.about:
        _record_end(run, recorder, objective=card.config["objective"])
    if run.finished is None:
        told = f"run {recorder.run_id(_TRIAL)} is recorded as KILLED" if run.about else "nothing is recorded"
        console.print(f"stopped: {told}", highlight=False, soft_wrap=True)
        raise Interrupted


def _record_end(run: SingleRun, recorder: Recorder, *, objective: str) -> None:
    finished = run.finished
    if finished is None:
        recorder.finish(_TRIAL, Status.KILLED, tags={"besom.state": "INTERRUPTED"})
    elif finished.state is State.COMPLETE:
        best = {f"best/{objective}": finished.value} if finished.value is not None else {}
        tags = {"besom.state": "COMPLETE", "besom.best_epoch": str(finished.best_epoch)}
        recorder.finish(_TRIAL, Status.FINISHED, metrics={**best, **finished.summary}, tags=tags)
    else:
        tags = {"besom.state": "FAIL", "besom.reason": finished.reason or ""}
        recorder.finish(_TRIAL, Status.FAILED, tags=tags, traceback=finished.traceback or finished.reason)


def _judged(run: SingleRun) -> SingleRun:
    finished = run.finished
    assert finished is not None
    if finished.state is State.COMPLETE:
        return run
    where = f" (run {run.run_id})" if run.run_id else ""
    if finished.user_error:
        raise BesomError(f"{finished.reason}{where}")
    raise TrainingCrashed(f"{finished.reason}{where}", finished.traceback or "")


def _tell_start(console: Console, about: Mapping[str, Any]) -> None:
    sizes = ", ".join(f"{count:,} {part}" for part, count in about.get("sizes", {}).items())
    data = f"{about.get('data', 'your data')} ({sizes}), " if sizes else ""
    text = f"{data}{about['parameters']:,} parameters, on {about['device']} with {about['threads']} thread(s)"
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _tell_epoch(console: Console, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
    shown = "   ".join(f"{name} {value:.4f}" for name, value in sorted(metrics.items()) if not name.endswith("/lr"))
    console.print(
        f"epoch {epoch:>{len(str(epochs))}}/{epochs}   {shown}", highlight=False, markup=False, soft_wrap=True
    )
