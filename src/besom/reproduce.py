"""From a run's id to the same run again, and a verdict: bit-exact or not, epoch by epoch.

A run that was trained in a bundle is trained alone: there it can come close only, and is told how close.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from besom.errors import RunNotFound
from besom.single import SingleRun, run_single
from besom.tracking.code_state import code_state
from besom.tracking.entries import to_key
from besom.tracking.runs import RecordedRun, Runs
from besom.tracking.store import Location

History = Mapping[int, Mapping[str, float]]

TOLERANCE = 0.01
"""What counts as close to a run of a bundle, as a `Difference.share`.

Rounding differs there, and training carries it on: a sample near the border may come to lie on its other side.
"""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Where a metric of the new run left the recorded one."""

    metric: str
    first_epoch: int
    largest: float
    at_epoch: int
    share: float
    """The largest difference as a share of the value, or of 1 where that is smaller."""


def reproduce(run_id: str, location: Location, console: Console) -> bool:
    """Train a recorded run again from its config and compare every metric at every epoch.

    Prints the verdict, REPRODUCED or DIFFERS with a table, records it on the new run, and returns whether
    every value was bit-exact; for a run of a bundle, CLOSE and whether every value was within TOLERANCE.
    """
    runs = Runs(location)
    recorded = runs.run(run_id)
    if not recorded.history:
        raise RunNotFound(
            f"run '{run_id}' has no metrics to compare with: it ended {recorded.status} before its first epoch"
        )
    console.print(f"run {run_id} ({recorded.name}), {recorded.status}", highlight=False)
    config = OmegaConf.create(dict(recorded.config))
    config.tracking = {"enabled": True, "experiment": "reproduce", "directory": str(location.directory)}
    config.tracking.uri = None if location.is_local else location.uri
    again = run_single(
        config,
        name=f"{recorded.name}-again",
        tags={"besom.reproduces": run_id},
        location=location,
        console=console,
    )
    for warning in changes(recorded, again):
        console.print(f"warning: {warning}", style="yellow", highlight=False, soft_wrap=True)
    differences = compare(recorded.history, _as_recorded(again.history))
    bundled = int(recorded.tags.get("besom.bundle", 1))
    close = bundled > 1 and all(difference.share <= TOLERANCE for difference in differences)
    verdict = "CLOSE" if differences and close else "DIFFERS" if differences else "REPRODUCED"
    runs.set_tags(again.run_id, {"besom.verdict": verdict})
    if verdict == "CLOSE":
        worst = max(differences, key=lambda difference: difference.largest)
        console.print(
            f"CLOSE: it was trained in a bundle of {bundled}, and is now trained alone; the largest difference is "
            f"{worst.largest:.3g}, of {worst.metric} at epoch {worst.at_epoch}",
            style="bold green", highlight=False, soft_wrap=True,
        )  # fmt: skip
    elif differences:
        console.print(_table(differences))
        console.print(f"DIFFERS: {len(differences)} metric(s) left the recorded values", style="bold red")
    else:
        epochs = len(again.history)
        metrics = len({name for values in again.history.values() for name in values})
        console.print(
            f"REPRODUCED: {metrics} metrics at {epochs} epochs, bit-exact",
            style="bold green",
            highlight=False,
        )
    console.print(f"run {again.run_id}", highlight=False)
    return close or not differences


def _as_recorded(history: History) -> History:
    return {epoch: {to_key(name): value for name, value in metrics.items()} for epoch, metrics in history.items()}


def compare(recorded: History, again: History) -> list[Difference]:
    """Return where the metrics differ, metric by metric; a value that only one side has is a difference of inf.

    Metrics that are measured once, after the last epoch (`best/…`, `test/…`, `cost/…`), are left out.
    """
    found: list[Difference] = []
    epochs = sorted({*recorded, *again})
    names = sorted({name for history in (recorded, again) for values in history.values() for name in values})
    for name in names:
        if name.startswith(("best/", "test/", "cost/")):
            continue
        gaps = {
            epoch: gap
            for epoch in epochs
            if (gap := _gap(recorded.get(epoch, {}).get(name), again.get(epoch, {}).get(name)))
        }
        if gaps:
            worst = max(gaps, key=lambda epoch: gaps[epoch])
            share = max(
                gap / max(1.0, *(abs(_stored(side[epoch][name])) for side in (recorded, again)))
                if math.isfinite(gap) else math.inf
                for epoch, gap in gaps.items()
            )  # fmt: skip
            found.append(
                Difference(metric=name, first_epoch=min(gaps), largest=gaps[worst], at_epoch=worst, share=share)
            )
    return found


def _gap(before: float | None, now: float | None) -> float:
    if before is None or now is None:
        return 0.0 if before is now else math.inf
    before, now = _stored(before), _stored(now)
    if before == now or (math.isnan(before) and math.isnan(now)):
        return 0.0
    gap = abs(before - now)
    return math.inf if math.isnan(gap) else gap


def _stored(value: float) -> float:
    """The value as MLflow stores it: infinity is the largest number there."""
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value


def changes(recorded: RecordedRun, again: SingleRun) -> list[str]:
    """Return what is not as it was when the run was recorded: code, versions, device, data."""
    now = {name: str(value) for name, value in again.about.get("versions", {}).items()}
    warnings = [
        f"{name} was {recorded.tags[tag]}, is {version}"
        for name, version in now.items()
        if (tag := f"besom.version.{name}") in recorded.tags and recorded.tags[tag] != version
    ]
    device = str(again.about.get("device"))
    if recorded.tags.get("besom.device", device) != device:
        warnings.append(f"device was {recorded.tags['besom.device']}, is {device}")
    digest = str(again.about.get("digest", ""))[:32]
    if recorded.digest not in (None, digest):
        warnings.append(f"data digest was {recorded.digest}, is {digest}: the data changed")
    code = code_state().tags
    commit = "mlflow.source.git.commit"
    if recorded.tags.get(commit) != code.get(commit):
        warnings.append(f"git commit was {recorded.tags.get(commit, 'unknown')}, is {code.get(commit, 'unknown')}")
    if "true" in (recorded.tags.get("besom.git.dirty"), code.get("besom.git.dirty")):
        warnings.append("the git tree was or is dirty: the code may differ from its commit")
    return warnings


def _table(differences: list[Difference]) -> Table:
    table = Table(box=None)
    for name in ("metric", "first differs at epoch", "largest difference", "at epoch"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for difference in differences:
        table.add_row(
            difference.metric,
            str(difference.first_epoch),
            f"{difference.largest:.3g}",
            str(difference.at_epoch),
        )
    return table
