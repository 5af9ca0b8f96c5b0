"""Reading the report of a stored study, and writing its page, for `besom report`."""

from __future__ import annotations

from pathlib import Path

import optuna

from besom.errors import ConfigError
from besom.reports.html.page import page, page_path, write
from besom.reports.read.report import Report, read_report
from besom.studies.cards import Stage, find_study, opened
from besom.tracking.store import Location
from besom.tracking.study_reader import study_reader


def read_study(name: str, *, storage: str | None, directory: Path, location: Location) -> tuple[Report, Path]:
    """Read the report of a study by its name; return it with the default path of its page.

    `location` is the store of its runs. Raises RunNotFound when there is no such study, StoreError for a store.
    """
    with opened(storage, directory) as backend:
        cached = optuna.storages.get_storage(backend)  # a cache: trials are read once
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
