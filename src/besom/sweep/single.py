"""A single run outside any study, for `besom train` and `besom reproduce`.

It uses the same parts as a sweep's trial (a fresh worker, the same messages, the same recorder), so that retraining
a trial as a single run changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from omegaconf import DictConfig, open_dict
from rich.console import Console

from besom.config.checks import check, recordable, resolved
from besom.config.objectives import read_objectives
from besom.config.targets.model_keys import keys_for_model
from besom.config.targets.trust import Trust
from besom.config.units import Unit, axis_of, limit_of
from besom.errors import BesomError, Interrupted, TrainingCrashed
from besom.reports.format import number
from besom.sweep.trials.follow import follow
from besom.sweep.trials.trial import disk_is_full, family, for_slot
from besom.system.interrupts import ending_in_order, interrupts
from besom.system.locks import own_folder
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
_LINES = 20  # printed reports at most; of an unknown number, as many until it doubles


@dataclass
class SingleRun:
    """A trained run: its id, the worker's description of the model and data, its metrics by `axis`, and its end."""

    run_id: str = ""
    axis: Unit = Unit.EPOCH
    about: Mapping[str, Any] = field(default_factory=dict)
    history: dict[int, Mapping[str, float]] = field(default_factory=dict)
    result: TrialResult | None = None

    def note(self, console: Console, printer: _Printer, event: Event) -> None:
        """Note and print an event of the worker."""
        match event:
            case Started(about=about):
                self.about = about
                _print_start(console, about)
            case Reported(metrics=metrics):
                at = event.at(self.axis)
                self.history[at] = metrics
                printer.print(console, at, metrics)


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
    axis: Unit | None = None,
    overrides: Sequence[str] = (),
) -> SingleRun:
    """Train a composed config in a fresh worker and record it, by `axis`, which the config has by default.

    Of its `overrides`, those that the model does not read are refused. Of a recorded config, only targets that `trust`
    allows are built.

    Raises BesomError for errors that the user can fix (nothing is recorded if training had not started), Interrupted
    on ctrl-C, TrainingCrashed for any other exception in training.
    """
    check(config)
    location.prepare()
    (slot,) = find_slots(config.trainer.accelerator, per_trial=config.trainer.devices, limit=1)
    config = _with_figures(for_slot(config, slot, test=config.test))
    plain = resolved(config)
    run = SingleRun(axis=axis or axis_of(plain))
    model_keys = keys_for_model(overrides, config)
    printer = _Printer(run.axis, limit_of(plain, run.axis))
    recorder = Recorder(location if config.tracking.enabled else None, config.tracking.experiment or EXPERIMENT)
    with own_folder(location.directory / "scratch", "run-") as scratch:
        card = RunCard(
            name=name, config=recordable(config), tags={Tag.FAMILY: family(config), **command_tags(), **tags},
            directory=scratch, axis=run.axis,
        )  # fmt: skip
        logs = location.directory / "logs" / "train"
        with WorkerPool([slot], Training(trust), logs=logs, launcher=launcher) as pool, recorder:
            recorder.keep_code()
            _record_kept(recorder, console)
            run.result = follow(
                pool, recorder,
                Assignment(trial=_TRIAL, config=plain, directory=scratch, model_keys=model_keys), card,
                objectives=read_objectives(card.config), on_event=partial(run.note, console, printer),
            )  # fmt: skip
            if run.result is None:
                _raise_interrupted(run, recorder, console)
            if run.about:
                run.run_id = _wait_until_recorded(recorder, console, stopped=False)
    _raise_failure(run)
    return run


def _with_figures(config: DictConfig) -> DictConfig:
    if config.get("figures", "auto") == "auto":
        with open_dict(config):
            config.figures = "all"  # of a single model, the user wants to see them all
    return config


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


@dataclass
class _Printer:
    """Prints the metrics of at most `_LINES` reports, by the axis of a run; its `limit` is None if unknown."""

    axis: Unit
    limit: int | None
    reports: int = 0
    every: int = 1

    def print(self, console: Console, at: int, metrics: Mapping[str, float]) -> None:
        """Print a report, unless it is left out."""
        if self._is_left_out(at):
            return
        shown = "   ".join(
            f"{name} {number(value, name)}" for name, value in sorted(metrics.items()) if not name.endswith("/lr")
        )
        of = f"/{self.limit}" if self.limit else ""
        where = f"{self.axis} {at:>{len(str(self.limit or 0))}}{of}"
        console.print(f"{where}   {shown}", highlight=False, markup=False, soft_wrap=True)

    def _is_left_out(self, at: int) -> bool:
        if self.limit is not None and self.axis is not Unit.STEP:
            return bool(at % max(1, self.limit // _LINES)) and at != self.limit
        self.reports += 1
        if self.reports > self.every * _LINES:
            self.every *= 2
        return bool(self.reports % self.every)
