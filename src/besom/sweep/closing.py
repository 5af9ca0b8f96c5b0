"""What a sweep leaves with its study at the end: the report as a page, and in short as the parent run's description."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from besom.errors import StoreError
from besom.reports.note import note
from besom.reports.page import page, page_path, write
from besom.reports.report import Report, read_report
from besom.reports.summary import Summary
from besom.sweep.spec import SweepSpec
from besom.sweep.study import StudyBook
from besom.tracking.recorder import Recorder
from besom.tracking.store import Location
from besom.tracking.study_record import study_reader


def keep_report(
    console: Console, recorder: Recorder, book: StudyBook, summary: Summary, spec: SweepSpec, location: Location
) -> tuple[Report, Path] | None:
    """Write the report, give it to the parent run, and return it with its path; None where nothing is recorded.

    A report that cannot be made is told of and costs the sweep nothing else: everything is recorded by then.
    """
    if not recorder.keeps:
        return None
    path = page_path(spec.study_name, location.directory)
    over_all = book.total is None or summary.over >= book.total or book.ran_out_of_patience
    try:
        reader = study_reader(location)
        report = read_report(
            book.study, book.study.get_trials(deepcopy=False), spec.objectives, base=location.ui, reader=reader,
            total=book.total, stage="complete" if over_all else "interrupted", summary=summary,
            others=None if reader is None or reader.cheap else 0,  # nobody waits for a server at the end of a sweep
        )  # fmt: skip
        text = page(report)
        write(text, path)
    except (StoreError, OSError) as error:
        console.print(f"warning: no report was made: {error}", style="yellow", highlight=False, markup=False)
        return None
    recorder.tell_of_study(note(report), {"report.html": text})
    return report, path
