"""The environment variables that link a job's own MLflow runs to the run of its trial, or else to that of its study."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunLinks:
    """The store and the experiment of a study's runs, and its parent run; no `parent` for a single job.

    With `chooses_ids`, the id of a run can be chosen before it is created; a tracking server chooses it itself.
    """

    uri: str
    experiment_id: str
    parent: str
    chooses_ids: bool

    def new_id(self) -> str | None:
        """Return an id for the run of a trial, if it can be chosen."""
        return uuid.uuid4().hex if self.chooses_ids else None

    def variables(self, run_id: str | None) -> Mapping[str, str]:
        """Return the variables for a job, whose run has this id if it is known."""
        named = {
            "BESOM_TRACKING_URI": self.uri,
            "BESOM_EXPERIMENT_ID": self.experiment_id,
            "BESOM_PARENT_RUN_ID": self.parent,
            "BESOM_RUN_ID": run_id or "",
        }
        return {name: value for name, value in named.items() if value}
