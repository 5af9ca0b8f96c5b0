"""`besom report`: a study as it is kept, read into a report, as a page, on the terminal and for programs."""

from __future__ import annotations

from pathlib import Path

import optuna

from besom.errors import ConfigError
from besom.reports.html.page import page, page_path, write
from besom.reports.read.report import Report, read_report
from besom.studies.cards import Stage, find_study, opened
from besom.tracking.store import Location
from besom.tracking.study_reader import study_reader


def read(name: str, *, storage: str | None, directory: Path, location: Location) -> tuple[Report, Path]:
    """Read the report of a study by its name, and say where its page belongs; `location` is where its runs are.

    Raises RunNotFound when there is no such study, StoreError when a store cannot be used.
    """
    with opened(storage, directory) as found:
        cached = optuna.storages.get_storage(found)  # its trials are read once
        card = find_study(cached, name, directory)
        study = optuna.load_study(study_name=name, storage=cached)
        report = read_report(
            study,
            card.trials,
            card.objectives,
            base=location.ui,
            reader=study_reader(location),
            total=card.total,
            stage=f"running (pid {card.pid})" if card.stage is Stage.RUNNING else str(card.stage),
        )
    return report, page_path(name, directory)


def write_page(report: Report, path: Path) -> None:
    """Write a report's page. Raises ConfigError when the file cannot be written."""
    try:
        write(page(report), path)
    except OSError as error:
        raise ConfigError(f"--output: {path} cannot be written ({error.strerror}); name another file") from error
