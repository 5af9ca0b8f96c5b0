"""The interface of a writer of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from besom.tracking.study_run import Status

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Param


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """What a run is created with; `config` is the text of its artifact config.yaml.

    With a `run_id`, the store has the run, and perhaps not all that it begins with.
    """

    name: str
    began_ms: int
    tags: Mapping[str, str]
    params: Sequence[Param]
    data: DatasetInput | None
    config: str
    run_id: str | None = None


class Writer(Protocol):
    """Writes the runs of one experiment."""

    def create(self, run: NewRun, directory: Path, made: Callable[[str], None]) -> None:
        """Create a run that is RUNNING, with all that it begins with.

        `made` is called with its id as soon as the store has it: if what follows fails, it can still be ended.
        `directory` is the trial's own.
        """

    def measure(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Add metrics to a run that goes on."""

    def finish(
        self,
        run_id: str,
        status: Status,
        *,
        metrics: Sequence[Metric],
        tags: Mapping[str, str],
        directory: Path,
        ended_ms: int,
    ) -> None:
        """End a run with its last metrics, more tags, and the files of a directory, which may be moved.

        The run has its new status only when everything else is there.
        """
