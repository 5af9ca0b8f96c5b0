"""A single run outside any study, for `besom train` and `besom reproduce`.

It uses the same parts as a sweep's trial (a fresh worker, the same messages, the same recorder), so that retraining
a trial as a single run changes nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import DictConfig, open_dict
from rich.console import Console

from besom.config.checks import check, folds_of, recordable, resolved
from besom.config.objectives import read_objectives
from besom.config.targets.trust import Trust
from besom.errors import BesomError, Interrupted, TrainingCrashed
from besom.reports.format import number
from besom.sweep.trials.follow import follow
from besom.sweep.trials.trial import disk_is_full, family, for_slot
from besom.system.interrupts import ending_in_order, interrupts
from besom.tracking.provenance import command_tags
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.store import Location
from besom.tracking.tags import Tag
from besom.workers.devices import find_slots
from besom.workers.messages import Assignment, Blame, Reported, Started, TrialResult
from besom.workers.pool import Event, Launcher, WorkerPool, launch
from besom.workers.tasks import Training

EXPERIMENT = "train"
_TRIAL = 0
_LINES = 20  # printed epochs at most


@dataclass
class SingleRun:
    """A trained run: its id, the worker's description of the model and data, its metrics by epoch, and its end."""

    run_id: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    history: dict[int, Mapping[str, float]] = field(default_factory=dict)
    result: TrialResult | None = None

    def note(self, console: Console, steps: _Steps, event: Event) -> None:
        """Note and print an event of the worker."""
        match event:
            case Started(about=about):
                self.about = about
                _print_start(console, about)
            case Reported(epoch=epoch, metrics=metrics):
                self.history[epoch] = metrics
                steps.print(console, epoch, metrics)


@ending_in_order()
def run_single(
    config: DictConfig,
    *,
    name: str,
    tags: Mapping[str, str],
    location: Location,
    console: Console,
    launcher: Launcher = launch,
    trust: Trust | None = None,
) -> SingleRun:
    """Train a composed config in a fresh worker and record it; of a recorded config, only targets that `trust` allows.

    Raises BesomError for errors that the user can fix (nothing is recorded if training had not started), Interrupted
    on ctrl-C, TrainingCrashed for any other exception in training.
    """
    check(config)
    location.prepare()
    (slot,) = find_slots(config.trainer.accelerator, per_trial=config.trainer.devices, limit=1)
    config = for_slot(config, slot, test=config.test)
    if config.get("figures", "auto") == "auto":
        with open_dict(config):
            config.figures = "all"  # of a single model, the user wants to see them all
    plain = resolved(config)
    run = SingleRun()
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=_created(location.directory / "scratch")))
    card = RunCard(
        name=name,
        config=recordable(config),
        tags={Tag.FAMILY: family(config), **command_tags(), **tags},
        directory=scratch,
    )
    recorder = Recorder(location if config.tracking.enabled else None, config.tracking.experiment or EXPERIMENT)
    try:
        logs = location.directory / "logs" / "train"
        with WorkerPool([slot], Training(trust), logs=logs, launcher=launcher) as pool, recorder:
            recorder.keep_code()
            _record_kept(recorder, console)
            assignment = Assignment(trial=_TRIAL, config=plain, directory=scratch)
            run.result = follow(
                pool, recorder, assignment, card,
                objectives=read_objectives(card.config), on_event=partial(run.note, console, _Steps.of(config)),
            )  # fmt: skip
            if run.result is None:
                _raise_interrupted(run, recorder, console)
            if run.about:
                run.run_id = _wait_until_recorded(recorder, console, stopped=False)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _raise_failure(run)
    return run


def _record_kept(recorder: Recorder, console: Console) -> None:
    if recorded := len(recorder.record_kept()):
        console.print(f"recorded {recorded} run(s) of before, which the tracking server had missed")


def _wait_until_recorded(recorder: Recorder, console: Console, *, stopped: bool) -> str:
    """Wait until the run is recorded, and return its id; `stopped` is true if the user stopped it.

    Raises Interrupted or StoreError if the tracking server is unreachable and the run is kept as files instead.
    """
    with interrupts() as stop:
        stop.asked = stopped
        kept = recorder.wait(stop, console.print)
    if kept.trials:
        notice = "the run is not recorded yet, since the tracking server is away; the next besom train records it"
        console.print(notice, soft_wrap=True)
    if kept.error is not None and not stop.asked:
        raise kept.error
    if kept.trials:
        raise Interrupted
    return recorder.run_id(_TRIAL)


def _created(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _raise_interrupted(run: SingleRun, recorder: Recorder, console: Console) -> NoReturn:
    outcome = "nothing is recorded"
    if run.about:
        run_id = _wait_until_recorded(recorder, console, stopped=True)
        outcome = f"run {run_id} is recorded as KILLED" if run_id else outcome
    console.print(f"stopped: {outcome}", highlight=False, soft_wrap=True)
    raise Interrupted


def _raise_failure(run: SingleRun) -> None:
    failure = run.result.failure if run.result else None
    if failure is None:
        return
    where = f" (run {run.run_id})" if run.run_id else ""
    if failure.blame is Blame.DISK:
        raise disk_is_full(f"run {run.run_id}" if run.run_id else "nothing was recorded", failure)
    if failure.blame in (Blame.USER, Blame.DATA):
        raise BesomError(f"{failure.reason}{where}")
    raise TrainingCrashed(f"{failure.reason}{where}", failure.traceback or "")


def _print_start(console: Console, about: Mapping[str, Any]) -> None:
    sizes = ", ".join(f"{count:,} {part}" for part, count in about.get("sizes", {}).items())
    data = f"{about.get('data', 'your data')} ({sizes}), " if sizes else ""
    size = f"{about['parameters']:,} parameters, " if "parameters" in about else ""
    text = f"{data}{size}on {about['device']} with {about['threads']} thread(s)"
    tuned = [f"{tuned['key']}={tuned['value']:.6g}, found by {tuned['by']}"] if (tuned := about.get("tuned")) else []
    for line in (*about.get("columns", ()), text, *tuned):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True)
class _Steps:
    """The steps after which a run reports metrics: epochs or folds."""

    name: str
    count: int

    @classmethod
    def of(cls, config: DictConfig) -> _Steps:
        folds = folds_of(config)
        return cls("epoch", config.trainer.max_epochs) if folds is None else cls("fold", folds)

    def print(self, console: Console, step: int, metrics: Mapping[str, float]) -> None:
        if step % max(1, self.count // _LINES) and step != self.count:
            return
        shown = "   ".join(
            f"{name} {number(value, name)}" for name, value in sorted(metrics.items()) if not name.endswith("/lr")
        )
        where = f"{self.name} {step:>{len(str(self.count))}}/{self.count}"
        console.print(f"{where}   {shown}", highlight=False, markup=False, soft_wrap=True)
