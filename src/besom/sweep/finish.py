"""The end of a sweep: the report, as a page and as the parent run's description, and the winner's model."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from besom.config.objectives import Objective
from besom.errors import StoreError
from besom.reports.html.page import page, page_path, write
from besom.reports.read.finalists import Finalists
from besom.reports.read.report import Report, read_report
from besom.reports.read.summary import Summary
from besom.reports.text.mlflow_note import note
from besom.sweep.study.study import StudyBook
from besom.system.console import warn
from besom.tracking.recorder.recorder import Recorder
from besom.tracking.registry import CHAMPION, register, serving_needs, version_of
from besom.tracking.store import Location
from besom.tracking.study_reader import study_reader


def keep_report(
    console: Console,
    recorder: Recorder,
    book: StudyBook,
    summary: Summary,
    objectives: tuple[Objective, ...],
    location: Location,
) -> tuple[Report, Path] | None:
    """Write the report, log it with the parent run, and return it with its path; None with `tracking=none`.

    A report that cannot be written only causes a warning: everything else is recorded by then.
    """
    if not recorder.persists:
        return None
    path = page_path(book.study.study_name, location.directory)
    over_all = book.total is None or summary.over >= book.total or book.ran_out_of_patience
    try:
        reader = None if recorder.is_away else study_reader(location)
        report = read_report(
            book.study, book.study.get_trials(deepcopy=False), objectives, base=location.ui, reader=reader,
            total=book.total, stage="complete" if over_all else "interrupted", summary=summary,
            others=None if reader is None or reader.cheap else 0,  # other runs on a server would delay the end
        )  # fmt: skip
        text = page(report)
        write(text, path)
    except (StoreError, OSError) as error:
        warn(console, f"no report was made: {error}")
        return None
    recorder.describe_study(note(report), {"report.html": text})
    return report, path


def register_winner(recorder: Recorder, finalists: Finalists | None, name: str | None, location: Location) -> str:
    """Register the model of the winner's best run in MLflow's registry, as its champion; return its name there.

    Return an empty string without a `name` or without a winner. A registered run keeps its version, and the alias is
    not moved: the user may have assigned it to another version since. Raises BesomError.
    """
    best = finalists.winner.best if finalists and finalists.winner else None
    if name is None or best is None or not best.run_id:
        return ""
    recorder.flush()
    version = version_of(location, best.run_id, name)
    if version is None:
        version = register(location, best.run_id, name)
        needs = serving_needs(location, best.run_id)
        return f"models:/{name}@{CHAMPION}, version {version}: run {best.run_id}" + (f"; {needs}" if needs else "")
    return f"models:/{name}/{version}: run {best.run_id}"
