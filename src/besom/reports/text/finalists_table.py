"""Finalists on the terminal: a table, and the verdict on winner and baseline."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from besom.config.objectives import BEST
from besom.reports.format import apart, number, signed
from besom.reports.read.failures import numbered, one_line
from besom.reports.read.finalists import BASELINES, Finalist, FinalistRun, Finalists
from besom.reports.read.statistics import Estimate, PairedTest
from besom.reports.read.summary import UNKNOWN


def render_finalists(finalists: Finalists, console: Console, *, conclude: bool = True) -> RenderableType:
    """Return a table of each finalist's mean, 95 % interval and deviation, then the verdict and the failures.

    The columns: the value in the sweep, the mean with fresh seeds on validation, its standard deviation, by how much
    the sweep's value was better (its optimism), mean and deviation on test, and `n` runs. A narrow terminal shows no
    deviations. Without `conclude` there is no verdict.
    """
    table = _table(finalists, spread=True)
    if Measurement.get(console, console.options.update(max_width=1000), table).maximum > console.width:
        table = _table(finalists, spread=False)
    title = f"finalists, the best on {finalists.objective.name} first: means, ± their 95 % intervals"
    failures = [Text(line, style="red") for line in _failures(finalists.finalists)]
    conclusion = [Text(), Text(verdict(finalists), style="bold")] if conclude else []
    return Group(Text(title, style="table.title"), table, *conclusion, *failures, Text())


def _table(finalists: Finalists, *, spread: bool) -> Table:
    objective, sd = finalists.objective, ["sd"] * spread
    table = Table(box=None, collapse_padding=not spread)
    table.add_column("trial", justify="right", no_wrap=True)
    tested, has_models = finalists.are_tested, any(one.row.family not in UNKNOWN for one in finalists.finalists)
    if has_models:
        table.add_column("model", overflow="fold")
    for name in ("sweep", objective.name, *sd, "optimism", *[objective.test_metric, *sd] * tested, "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in finalists.finalists:
        row, again, test = one.row, one.validation, one.test
        table.add_row(
            str(row.trial), *[row.family] * has_models, number(row.value), _mean(again),
            *[_deviation(again)] * spread, _optimism(one),
            *[_mean(test), *[_deviation(test)] * spread] * tested, str(len(one.complete)),
            style="bold" if one is finalists.winner else "",
        )  # fmt: skip
    return table


def verdict(finalists: Finalists) -> str:
    """Return a sentence on whether the winner beats the baseline on the test data, with the statistical test."""
    winner, rival = finalists.winner, finalists.rival
    metric = finalists.compared_metric.removeprefix(BEST)
    if winner is None:
        return "no finalist is complete"
    if rival is None and not finalists.are_tested:
        return f"{_named(winner)} comes first, with {metric} {_mean(winner.validation)}"
    if rival is None:
        score = f", with {metric} {_mean(winner.test)}" if winner.test else ""
        return f"{_named(winner)} comes first{score}; there is no baseline ({' or '.join(BASELINES)}) to beat"
    if winner is rival:
        return f"no finalist comes before the baseline, {_named(rival)}, on {finalists.objective.name}"
    other = f"the baseline, {_named(rival)}" if rival.is_baseline else f"the next best, {_named(rival)}"
    test, estimate = finalists.comparison, winner.estimate(finalists.compared_metric)
    if test is None or estimate is None:
        return f"whether {_named(winner)} beats {other}, cannot be told: less than two seeds have {metric} of both"
    gain, *ends = _gain(test, higher_is_better=finalists.objective.direction == "maximize")
    by, low, high = (signed(one, estimate.mean).removeprefix("+") for one in (gain, *ends))
    evidence = f"95 % interval {low} to {high}; {test.name} over {test.count} seeds, {_p_value(test)}"
    if not test.differs:
        return (
            f"{_named(winner)} may be no better than {other}: the gain of {by} in {metric} may be chance ({evidence})"
        )
    verb = "beats" if gain > 0 else "is worse than"
    return f"{_named(winner)} {verb} {other}, by {by.removeprefix('-')} of {metric} ({evidence})"


def _gain(test: PairedTest, *, higher_is_better: bool) -> tuple[float, float, float]:
    """Return the mean gain and its interval, positive if the winner is better."""
    if higher_is_better:
        return test.difference, test.low, test.high
    return -test.difference, -test.high, -test.low


def _p_value(test: PairedTest) -> str:
    return "p < 0.0001" if test.p_value < 1e-4 else f"p = {test.p_value:.2g}"


def _named(one: Finalist) -> str:
    family = "" if one.row.family in UNKNOWN else f" ({one.row.family})"
    return f"trial {one.row.trial}{family}"


def _mean(estimate: Estimate | None) -> str:
    if estimate is None:
        return "·"
    half = "" if estimate.high is None else f" ± {apart(estimate.high - estimate.mean, estimate.mean)}"
    return f"{number(estimate.mean)}{half}"


def _deviation(estimate: Estimate | None) -> str:
    if estimate is None or estimate.deviation is None:
        return "·"
    return apart(estimate.deviation, estimate.mean)


def _optimism(one: Finalist) -> str:
    if one.optimism is None:
        return "·"
    return signed(one.optimism, one.row.value)


def _failures(finalists: Sequence[Finalist]) -> list[str]:
    by_reason: dict[str, list[FinalistRun]] = {}
    for one in finalists:
        for run in one.runs:
            if run.reason is not None:
                by_reason.setdefault(one_line(run.reason), []).append(run)
    return [
        f"{len(runs)} of the finalists' runs failed: {reason}   (trial{'s' * (len(trials) > 1)} {numbered(trials)})"
        for reason, runs in by_reason.items()
        if (trials := sorted({run.trial for run in runs}))
    ]
