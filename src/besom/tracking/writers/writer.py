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
    """The data that a run is created with; `config` is the text of its artifact config.yaml.

    With a `run_id`, the store already has the run, though perhaps not all of this data. `chosen_id` is the id for a new
    one, where a writer can choose it.
    """

    name: str
    began_ms: int
    tags: Mapping[str, str]
    params: Sequence[Param]
    data: DatasetInput | None
    config: str
    run_id: str | None = None
    chosen_id: str | None = None


_NONE: Mapping[str, str] = {}


class Writer(Protocol):
    """Writes the runs of one experiment."""

    def create(self, run: NewRun, directory: Path, on_created: Callable[[str], None]) -> None:
        """Create a run with the status RUNNING and all its initial data.

        `on_created` is called with its id as soon as the store has it, so that it can be ended if a later call fails.
        `directory` is the trial's folder.
        """

    def add(
        self, run_id: str, *, metrics: Sequence[Metric], params: Sequence[Param] = (), tags: Mapping[str, str] = _NONE
    ) -> None:
        """Add metrics, new params and tags to a running run."""

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
        """End a run with its last metrics, tags, and the files of a directory, which may be moved.

        The status is set last, when everything else is written.
        """
