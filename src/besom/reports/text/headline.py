"""The sentences of a report: the winner, its rival, and whether fresh seeds confirm it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from besom.config.objectives import Objective
from besom.reports.format import in_short, number
from besom.reports.read.failures import numbered
from besom.reports.read.finalists import Finalists
from besom.reports.read.report import Report
from besom.reports.read.statistics import Estimate
from besom.reports.read.summary import UNKNOWN, Row
from besom.reports.read.timetable import Timetable
from besom.reports.text.finalists_table import verdict
from besom.reports.times import duration, offset, stamp
from besom.tracking.tags import Tag


def answer(report: Report) -> list[str]:
    """Return the outcome in a few sentences, the most important first: finalists, if any, then the sweep's best."""
    return [*(_again(report.finalists) if report.finalists else ()), *_winner(report), *_open(report)]


def _winner(report: Report) -> Iterator[str]:
    best = report.summary.best
    if best is None:
        counted = ", ".join(f"{count} {state}" for state, count in report.counts.items())
        lacking = "feasible" if report.summary.rows else "complete"
        yet = "" if report.stage == "complete" else " yet"
        yield f"No trial is {lacking}{yet} ({counted})." if counted else f"No trial was asked{yet}."
        return
    complete = len(report.summary.rows)
    if len(report.objectives) > 1:
        named = " and ".join(one.name for one in report.objectives)
        front = report.summary.front
        on_it = f"{len(front)} of {complete} complete trials are" if len(front) > 1 else f"1 of {complete} is"
        yield f"{on_it} on the Pareto front of {named}; best in {report.objectives[0].name} is {_named(best)}."
        return
    objective = report.objectives[0]
    ties = [row.trial for row in report.summary.rows[1:] if row.feasible and row.value == best.value]
    equal = f"; trial{'s' * (len(ties) > 1)} {numbered(ties)} came to the same" if ties else ""
    value = number(best.value, objective.name)
    yield f"Best {objective.name} is {value}: {_named(best)}, of {complete} complete{equal}."
    rival = report.rival
    if rival is not None:
        ahead = _ahead(best.value, rival.value, objective)
        yield f"The best {rival.family}, trial {rival.trial}, came to {number(rival.value, objective.name)}: {ahead}."


def _ahead(best: float, other: float, objective: Objective) -> str:
    gap = abs(best - other)
    return (
        "as much"
        if gap == 0
        else f"{number(gap, objective.name)} {'less' if objective.direction == 'maximize' else 'more'}"
    )


def _named(row: Row) -> str:
    family = "" if row.family in UNKNOWN else f" ({row.family})"
    return f"trial {row.trial}{family}"


def _again(found: Finalists) -> Iterator[str]:
    winner = found.winner
    if winner is None:
        yield "No finalist came to an end with fresh seeds."
        return
    metric = found.objective.test_metric
    estimate = winner.test or winner.validation
    if estimate is not None:
        name = metric if winner.test else found.objective.name
        yield f"Trained again with fresh seeds, {_named(winner.row)} leads, with {name} {interval(estimate)}."
    if found.rival is not None:
        sentence = verdict(found)
        yield f"{sentence[0].upper()}{sentence[1:]}."


def _open(report: Report) -> Iterator[str]:
    over = report.summary.over
    if report.finalists is not None and report.finalists.to_come:
        left = report.finalists.to_come
        yield f"So far: {left} of the finalists' runs {'is' if left == 1 else 'are'} to come."
    if report.stage != "complete" and report.total is not None and over < report.total:
        yield f"So far: {over} of {report.total} trials are over ({report.stage})."
    elif report.stage.startswith("running"):
        yield f"So far: the sweep is {report.stage}."


def interval(estimate: Estimate) -> str:
    """Return a mean with its 95 % interval: `0.9804 [0.9751, 0.9857]`."""
    if estimate.low is None or estimate.high is None:
        return f"{number(estimate.mean)} (one run)"
    return f"{number(estimate.mean)} [{number(estimate.low)}, {number(estimate.high)}]"


def facts(report: Report) -> list[tuple[str, str]]:
    """Return facts about the study by name: goal, params, trials, time, devices, versions, data."""
    champion = report.finalists.champion if report.finalists else None
    whose, best = ("winner's", champion) if champion else ("best", report.summary.best)
    over = f"{report.summary.over} of {report.total}" if report.total is not None else str(report.summary.over)
    counted = ", ".join(f"{count} {state}" for state, count in report.counts.items())
    found = [
        ("goal", ", ".join(map(str, report.objectives))),
        (f"{whose} params", in_short(best.params) if best is not None else ""),
        ("trials", f"{over}: {counted}" if counted else "none"),
        ("pruned", str(report.summary.pruned) if report.summary.pruned.reached is not None else ""),
        *_times(report.timetable),
        ("devices", _devices(report)),
        *_origin(report),
    ]
    return [(name, words) for name, words in found if words]


def _times(found: Timetable) -> Iterator[tuple[str, str]]:
    if found.began is None or found.ended is None:
        return
    pace = f", {found.per_minute:.1f} trials/min" if found.per_minute else ""
    stops = len(found.pauses_s)
    stopped = f", in {stops + 1} sweeps" if stops else ""
    yield "time", f"{duration(found.swept_s)}{pace}{stopped}"
    # In the local time of the report, whose offset is shown for readers elsewhere.
    began, ended = found.began.astimezone(), found.ended.astimezone()
    until = f"{ended:%H:%M:%S}" if ended.date() == began.date() else stamp(ended)
    yield "when", f"{stamp(began)} to {until} {offset(ended)}"


def _devices(report: Report) -> str:
    slots = len(report.timetable.slots)
    named = " and ".join(report.record.devices) if report.record else ""
    used = report.timetable.utilisation
    busy = "" if used is None else f"busy {100 * used:.0f} % of the time"
    counted = f"{slots} slot{'s' * (slots > 1)}" if slots else ""
    return ", ".join(filter(None, (named, counted, busy)))


def _origin(report: Report) -> Iterator[tuple[str, str]]:
    record = report.record
    if record is None:
        return
    if record.data is not None:
        yield "data", f"{record.data[0]}, digest {record.data[1][:12]}"
    tags = record.provenance
    packages = ("torch", "pytorch-lightning", "optuna", "mlflow")
    versions = [f"besom {tags[Tag.VERSION]}"] if Tag.VERSION in tags else []
    versions += [f"{name} {tags[key]}" for name in packages if (key := f"{Tag.VERSION}.{name}") in tags]
    yield "versions", ", ".join(versions)
    commit = tags.get(Tag.COMMIT, "")
    changed = ", with uncommitted changes" if tags.get(Tag.DIRTY) == "true" else ""
    yield "commit", f"{commit[:12]}{changed}" if commit else ""
    yield "command", tags.get(Tag.COMMAND, "")


def chosen(report: Report) -> Sequence[Row]:
    """Return the trials worth reproducing: the winner, finalists, the best of each family, the runners-up."""
    finalists = [one.row for one in report.finalists.finalists] if report.finalists else []
    rows = [*report.leaders[:1], *finalists, *report.families, *report.leaders[:3]]
    return list({row.trial: row for row in rows}.values())
