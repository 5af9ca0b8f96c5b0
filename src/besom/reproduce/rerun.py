"""Training a recorded run again in this environment, and the verdict.

A run that was trained in a bundle is trained unbundled, so it can be CLOSE at best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from besom.config.targets.trust import SHIPPED, Trust
from besom.config.units import Unit
from besom.errors import BesomError, RunNotFound
from besom.reproduce.changes import Change, Kind, changes, config_changes, unrecorded
from besom.reproduce.comparison import ONCE, TOLERANCE, Difference, History, Verdict, compare, judge
from besom.reproduce.rerun_app import rerun_app
from besom.secrets.masks import missing_variables
from besom.sweep.single import run_single
from besom.tracking.app_command import AppCommand
from besom.tracking.runs import RecordedRun, Runs
from besom.tracking.store import Location
from besom.tracking.tags import Tag
from besom.workers.pool import Launcher, launch

_OF_A_JOB = ("cost/",)
"""The prefixes that are not compared of a job of another app: what it returns, `best/…`, is compared."""


def reproduce(
    run_id: str,
    location: Location,
    console: Console,
    *,
    tolerance: float = TOLERANCE,
    trust: Trust = SHIPPED,
    launcher: Launcher = launch,
) -> Verdict:
    """Train a recorded run again from its config and compare every metric wherever it was recorded.

    Prints what changed meanwhile and the verdict, and records it on both runs. `tolerance` is a `Difference.share`.
    Raises RunNotFound when there is nothing to compare with, ConfigError for a config that `trust` does not allow.
    """
    runs = Runs(location)
    recorded = runs.run(run_id)
    if not recorded.history:
        raise RunNotFound(
            f"run '{run_id}' has no metrics to compare with: it ended {recorded.status} before its first epoch"
        )
    _print(console, f"run {run_id} ({recorded.name}), {recorded.status}")
    app = AppCommand.of_tag(recorded.tags.get(Tag.APP))
    if app is None:
        again = runs.run(_train(recorded, location, console, trust, launcher))
    else:
        require_secrets(recorded)
        again = runs.run(rerun_app(recorded, app, runs, location, trust))
    code = runs.code(recorded)
    found = [*changes(recorded, again, code, runs.code(again)), *config_changes(recorded, again)]
    for change in found:
        _print(console, f"changed: {change.kind}: {change.what}", style="yellow")
    compared = _compared(recorded, again)
    without = ONCE if app is None else _OF_A_JOB
    differences = compare(recorded.history, compared, without=without)
    verdict = judge(differences, tolerance)
    runs.set_tags(again.run_id, {Tag.VERDICT: verdict})
    runs.set_tags(run_id, {Tag.REPRODUCED: verdict, Tag.REPRODUCED_BY: again.run_id})
    match verdict:
        case Verdict.REPRODUCED:
            _print(console, _reproduced(compared, recorded.axis, without), style="bold green")
        case Verdict.CLOSE:
            _print(console, _close(differences, tolerance, recorded.axis), style="bold green")
        case Verdict.DIFFERS:
            console.print(_table(differences, recorded.axis))
            _print(console, _differs(differences, tolerance, recorded.axis), style="bold red")
    if differences:
        _print(console, _why(recorded, found, unrecorded(recorded, code)))
    _print(console, f"run {again.run_id}")
    return verdict


def require_secrets(recorded: RecordedRun) -> None:
    """Raise BesomError if the run's config had secrets that are not set now, with their names."""
    if missing := missing_variables({**recorded.config, "tracking": {}}):
        keys, names = ", ".join(dict.fromkeys(missing.values())), " and ".join(missing)
        raise BesomError(f"run '{recorded.run_id}': {keys}: secrets are not recorded; set {names} and run it again")


def _train(recorded: RecordedRun, location: Location, console: Console, trust: Trust, launcher: Launcher) -> str:
    """Train and record the run again; return the new run's id. Raises as `require_secrets` does."""
    config = {**recorded.config, "tracking": {"enabled": True, "experiment": "reproduce"}}  # into `location`
    require_secrets(recorded)
    trust = replace(trust, folder=recorded.tags.get(Tag.FOLDER))
    trust.resolve(config)
    return run_single(
        OmegaConf.create(config),
        name=f"{recorded.name}-again",
        tags={Tag.REPRODUCES: recorded.run_id},
        location=location,
        console=console,
        launcher=launcher,
        trust=trust,
        axis=recorded.axis,
    ).run_id


def _compared(recorded: RecordedRun, again: RecordedRun) -> History:
    """Return the new run's metrics, up to the last report of a recorded run that was pruned or stopped."""
    if recorded.status == "FINISHED":
        return again.history
    last = max(recorded.history)
    return {number: metrics for number, metrics in again.history.items() if number <= last}


def _reproduced(history: History, axis: Unit, without: tuple[str, ...]) -> str:
    metrics = {name for values in history.values() for name in values if not name.startswith(without)}
    return f"REPRODUCED: {len(metrics)} metrics at {len(history)} {axis}s, bit-exact"


def _close(differences: Sequence[Difference], tolerance: float, axis: Unit) -> str:
    return f"CLOSE: every value is within {_of(tolerance)}; {_worst(differences, axis)}"


def _differs(differences: Sequence[Difference], tolerance: float, axis: Unit) -> str:
    beyond = sum(difference.share > tolerance for difference in differences)
    limit = f", {beyond} by more than {_of(tolerance)}" if tolerance else ""
    return f"DIFFERS: {len(differences)} metric(s) left the recorded values{limit}; {_worst(differences, axis)}"


def _of(tolerance: float) -> str:
    return f"{tolerance:g} of the recorded one (of 1 where that is smaller)"


def _worst(differences: Sequence[Difference], axis: Unit) -> str:
    worst = max(differences, key=lambda difference: (difference.share, difference.largest))
    if not math.isfinite(worst.largest):
        return f"one side alone has a number for {worst.metric} at {axis} {worst.at}"
    return f"the largest difference is {worst.largest:.3g}, of {worst.metric} at {axis} {worst.at}"


def _why(recorded: RecordedRun, found: Sequence[Change], lacking: Sequence[str]) -> str:
    """Return the likely cause of a difference, and the remedy if there is one."""
    bundled = int(recorded.tags.get(Tag.BUNDLE, 1))
    if bundled > 1:
        return f"it was trained in a bundle of {bundled}, and is now trained alone: rounding differs"
    kinds = list(dict.fromkeys(change.kind for change in found))
    if not kinds and lacking:
        return f"nothing that is recorded has changed, but this is not recorded, and may have: {', '.join(lacking)}"
    if not kinds:
        return "nothing that is recorded of code, data, packages and device has changed: this training varies by itself"
    remedy = ""
    if Tag.COMMIT in recorded.tags and {Kind.CODE, Kind.PACKAGES} & set(kinds):
        remedy = f"; besom reproduce {recorded.run_id} --exact takes the code and the packages of then"
    return f"likely because of: {', '.join(kinds)}{remedy}"


def _print(console: Console, text: str, *, style: str = "") -> None:
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _table(differences: Sequence[Difference], axis: Unit) -> Table:
    table = Table(box=None)
    for name in ("metric", f"first differs at {axis}", "largest difference", f"at {axis}"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for difference in differences:
        table.add_row(
            difference.metric,
            str(difference.first),
            f"{difference.largest:.3g}",
            str(difference.at),
        )
    return table
