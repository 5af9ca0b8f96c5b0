"""The tables of a report's page, with sort keys and links to runs in their cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from besom.config.objectives import Objective
from besom.reports.format import apart, headings, number, short, signed
from besom.reports.read.dimensions import differing
from besom.reports.read.finalists import Finalist, Finalists
from besom.reports.read.report import Report
from besom.reports.read.summary import UNKNOWN, Row
from besom.reports.text.headline import interval
from besom.reports.text.leaderboard import origin


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column; `title` is its full name, if the heading is short."""

    name: str
    title: str = ""
    numeric: bool = True


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell: its text, the number that it sorts by, the run that it links to."""

    words: str
    sort: float | None = None
    run_id: str = ""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row for a trial; `kind` is its CSS class."""

    trial: int
    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of trials."""

    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]


def trials_table(report: Report, rows: Sequence[Row]) -> Table:
    """Return a table of trials, with only the parameters in which they differ."""
    keys = [key for key in differing([row.params for row in rows]) if key != "model"]
    if len(rows) == 1:
        keys = [key for key in rows[0].params if key != "model"]
    has_models = any(row.family not in UNKNOWN for row in rows)
    columns = [Column(name="trial")]
    columns += [Column(name=objective.name) for objective in report.objectives]
    columns += [Column(name="model", numeric=False)] if has_models else []
    summary = report.summary
    origins = [name for name, there in (("config", summary.has_configs), ("code", summary.has_codes)) if there]
    columns += [Column(name=name, numeric=name == "config") for name in origins]
    for name, key in zip(headings(keys), keys, strict=True):
        columns.append(
            Column(name=name, title=key, numeric=all(_number(row.params.get(key, 0)) is not None for row in rows))
        )
    columns.append(Column(name="time"))
    best = report.summary.best
    return Table(
        columns=tuple(columns),
        rows=tuple(
            TableRow(
                trial=row.trial,
                cells=_cells(row, report.objectives, keys, origins, has_models=has_models),
                kind="infeasible"
                if not row.feasible
                else "best"
                if row is best or row.trial in report.summary.front
                else "",
            )
            for row in rows
        ),
    )


def _cells(
    row: Row, objectives: Sequence[Objective], keys: Sequence[str], origins: Sequence[str], *, has_models: bool
) -> tuple[Cell, ...]:
    cells = [Cell(words=str(row.trial), sort=row.trial, run_id=row.run_id)]
    named = zip(objectives, row.values, strict=True)
    cells += [Cell(words=number(value, one.name), sort=value) for one, value in named]
    cells += [Cell(words=row.family)] if has_models else []
    cells += [Cell(words=origin(row, name), sort=row.config if name == "config" else None) for name in origins]
    for key in keys:
        value = row.params.get(key)
        cells.append(Cell(words=short(value) if key in row.params else "·", sort=_number(value)))
    return *cells, Cell(words=f"{row.duration_s:.1f} s", sort=row.duration_s)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def finalists_table(found: Finalists) -> Table:
    """Return a table of finalists: the sweep's value, the results with fresh seeds, the optimism of the sweep."""
    objective = found.objective.name
    test = found.objective.test_metric
    has_models = any(one.row.family not in UNKNOWN for one in found.finalists)
    tested = [
        Column(name=test, title="mean of the runs with fresh seeds, and its 95 % interval"),
        Column(name="sd", title=f"standard deviation of {test}"),
    ] * found.are_tested
    columns = (
        Column(name="trial"),
        *[Column(name="model", numeric=False)] * has_models,
        Column(name="runs"),
        Column(name="sweep", title=f"{objective} as the sweep measured it"),
        Column(name=objective, title="mean of the runs with fresh seeds, and its 95 % interval"),
        Column(name="sd", title=f"standard deviation of {objective}"),
        *tested,
        Column(name="optimism", title="by how much the sweep's value is better than the mean with fresh seeds"),
    )
    rows = (
        TableRow(
            trial=one.row.trial,
            cells=_finalist(one, tested=found.are_tested, has_models=has_models),
            kind="best" if one is found.winner else "",
        )
        for one in found.finalists
    )
    return Table(columns=columns, rows=tuple(rows))


def _finalist(one: Finalist, *, tested: bool, has_models: bool) -> tuple[Cell, ...]:
    failed = len(one.runs) - len(one.complete)
    measured = []
    for estimate in (one.validation, *[one.test] * tested):
        spread = None if estimate is None else estimate.deviation
        deviation = "·" if estimate is None or spread is None else apart(spread, estimate.mean)
        measured.append(Cell(words="·") if estimate is None else Cell(words=interval(estimate), sort=estimate.mean))
        measured.append(Cell(words=deviation, sort=spread))
    return (
        Cell(words=str(one.row.trial), sort=one.row.trial, run_id=one.row.run_id),
        *[Cell(words=one.row.family)] * has_models,
        Cell(words=f"{len(one.complete)}{f' ({failed} failed)' if failed else ''}", sort=len(one.complete)),
        Cell(words=number(one.row.value), sort=one.row.value),
        *measured,
        Cell(words="·" if one.optimism is None else signed(one.optimism, one.row.value), sort=one.optimism),
    )
