"""An open store, as the recorder's thread uses it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from besom.errors import RunNotFound, StoreError
from besom.system.locks import locked
from besom.system.sqlite_files import complete
from besom.system.store_errors import Trouble
from besom.tracking.code import CodeState, code_state
from besom.tracking.places import recording_lock
from besom.tracking.recorder.patience import Patience, patient
from besom.tracking.recorder.pending_runs import PendingRun
from besom.tracking.recorder.trial_runs import TrialRuns
from besom.tracking.run_links import RunLinks
from besom.tracking.runs import config_of
from besom.tracking.sources import SourceKeeper
from besom.tracking.store import Location, connect, experiment_id, translated
from besom.tracking.study_run import StudyRuns
from besom.tracking.ui.views import publish
from besom.tracking.writers.bulk_writer import RowWriter
from besom.tracking.writers.client_writer import writer_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


class StoreSession:
    """The client of a store, one experiment in it, and the runs that are written there.

    All methods but `close` are called by the recorder's thread; `notice` receives messages for the user.
    """

    def __init__(
        self,
        location: Location,
        experiment: str,
        *,
        patience: Patience,
        notice: Callable[[str], None],
        flush_every_s: float,
    ) -> None:
        self._location = location
        self._experiment = experiment
        self._patience = patience
        self._notice = notice
        self._locks = contextlib.ExitStack()
        self.code = SourceKeeper(CodeState())
        self.runs = TrialRuns(flush_every_s=flush_every_s, notice=notice)
        self._client: MlflowClient
        self._experiment_id: str

    def open(self) -> None:
        """Connect to the store; lock a local one, so that its artifacts are not relocated meanwhile."""
        self._client = patient(connect(self._location), self._location, self._patience)
        if self._location.is_local:
            self._locks.enter_context(locked(recording_lock(self._location.directory), wait=True, share=True))
        self._experiment_id = experiment_id(self._client, self._location, self._experiment)
        self.runs.open(self._client, writer_of(self._client, self._location, self._experiment_id))

    def close(self) -> None:
        """Release the lock, and checkpoint a local database. Called after the thread has ended."""
        self._locks.close()
        if self._location.is_local:
            complete(self._location.database)

    def links(self) -> RunLinks:
        """Return what links a job's own runs to those of this session."""
        return RunLinks(
            uri=self._location.uri,
            experiment_id=self._experiment_id,
            parent=self.runs.study.run_id if self.runs.study is not None else "",
            chooses_ids=isinstance(self.runs.writer, RowWriter),
        )

    @property
    def study(self) -> StudyRuns:
        """The runs of the study that was opened."""
        assert self.runs.study is not None
        return self.runs.study

    def open_study(
        self,
        name: str,
        *,
        token: str,
        tags: Mapping[str, str],
        note: str,
        kept: Sequence[str],
        former: Sequence[str],
    ) -> None:
        """Create or resume the parent run of a study; see StudyRuns."""
        self.runs.study = StudyRuns(
            self._client, self._experiment_id, name, token=token, tags=tags, note=note, notice=self._notice,
            kept=kept, former=former,
        )  # fmt: skip

    def read_code(self) -> None:
        """Read the state of the code that the next runs are trained with."""
        self.code = SourceKeeper(code_state(besides=[self._location.directory]))

    def start(self, run: PendingRun) -> None:
        """Create a run."""
        run.find_code(self.code)
        self.runs.start(run)

    def record(self, run: PendingRun) -> StoreError | None:
        """Record a whole run; return the error if the store refuses it. Raises StoreError when it is unreachable."""
        try:
            with translated(self._location):
                run.find_code(self.code)
                self.runs.record(run)
        except StoreError as error:
            if error.trouble == Trouble.UNREACHABLE:
                raise
            return error
        return None

    def publish(self, key: str, views: Sequence[Mapping[str, Any]]) -> None:
        """Publish the first of some views that the store accepts; see besom.tracking.ui.views.publish."""
        publish(self._client, self._experiment_id, key, views)

    def config(self, run_id: str) -> Mapping[str, Any] | RunNotFound:
        """Return the config that a run was recorded with, or the error if it has none."""
        try:
            return config_of(self._client, self._location, run_id)
        except RunNotFound as error:
            return error
