"""What MLflow asks when a job of another app starts a run of its own: its parent run, and its experiment.

MLflow finds these classes by Besom's entry points, in each process that imports it. They apply only inside of a job
with `hydra.sweeper.tracking`, and only to runs in the same store.
"""

from __future__ import annotations

import os

from besom.tracking.tags import Tag


class ParentRun:
    """An MLflow RunContextProvider: makes the run a child of the trial's, or else of the study's."""

    def in_context(self) -> bool:
        """Return whether a sweep has such a run, in the store to which MLflow writes here."""
        return bool(_parent()) and _in_the_same_store()

    def tags(self) -> dict[str, str]:
        """Return the tag that MLflow's UI nests runs by."""
        return {Tag.PARENT_RUN: _parent()}


class StudyExperiment:
    """An MLflow DefaultExperimentProvider: the experiment of the study, unless the app has set another one."""

    def in_context(self) -> bool:
        """Return whether a sweep records its runs in the store to which MLflow writes here."""
        return "BESOM_EXPERIMENT_ID" in os.environ and _in_the_same_store()

    def get_experiment_id(self) -> str:
        """Return the id of the experiment."""
        return os.environ["BESOM_EXPERIMENT_ID"]


def _parent() -> str:
    return os.environ.get("BESOM_RUN_ID") or os.environ.get("BESOM_PARENT_RUN_ID", "")


def _in_the_same_store() -> bool:
    from mlflow import get_tracking_uri  # MLflow is not whole yet when it imports this module

    return str(get_tracking_uri()) == os.environ.get("BESOM_TRACKING_URI")
