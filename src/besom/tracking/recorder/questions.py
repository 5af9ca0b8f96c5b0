"""What a recorder can be asked about its study: each answer waits for what was recorded before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from besom.errors import RunNotFound
from besom.tracking.recorder.session import StoreSession
from besom.tracking.recorder.store_thread import StoreThread
from besom.tracking.study_run import RecordedEnd


class Questions:
    """Reads the store by the recorder's thread; if the server is unreachable, answers that nothing is known."""

    _thread: StoreThread
    _session: StoreSession

    def ends(self, trials: Sequence[int]) -> dict[int, RecordedEnd]:
        """Return how these trials ended, as far as their runs are over."""
        return self._thread.ask(lambda: self._session.study.ends(set(trials)), {})

    def finalists(self) -> list[RecordedEnd]:
        """Return how the complete runs of finalists ended."""
        return self._thread.ask(lambda: self._session.study.finalists(), [])

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """Return a metric's values by the axis of its run."""
        return self._thread.ask(lambda: self._session.study.history(run_id, metric), {})

    def config(self, run_id: str) -> Mapping[str, Any]:
        """Return the config that a run was recorded with. Raises RunNotFound when it has none."""
        lost: Mapping[str, Any] | RunNotFound = RunNotFound(f"run '{run_id}': nothing is recorded any more")
        config = self._thread.ask(lambda: self._session.config(run_id), lost)
        if isinstance(config, RunNotFound):
            raise config
        return config

    def run_ids(self) -> dict[int, str]:
        """Return the MLflow ids of the study's trials, by number, those of earlier sweeps included."""
        ids: dict[int, str] = self._thread.ask(lambda: self._session.study.run_ids(), {})
        return ids or dict(self._session.runs.ids)  # of this process alone, if the store is unreachable
