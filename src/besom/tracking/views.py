"""Where the MLflow UI should open: a study's runs table, sorted by its objective, with the right columns.

The state of a shared view is internal to MLflow: it was read off the UI of the pinned versions, and a browser
test holds it. Everything that knows its shape is in this module.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote


def view_key(study: str) -> str:
    """The key under which a study's view is kept, fit for a tag and a URL."""
    return "besom-" + re.sub(r"[^A-Za-z0-9_-]+", "-", study)


def runs_table(
    *, parent_run_id: str, objective: str, direction: str, params: Sequence[str], metrics: Sequence[str]
) -> dict[str, Any]:
    """The state of a runs table that shows a study's trials: best first, sampled params and metrics as columns."""
    shown = [objective, *[name for name in metrics if name != objective]]
    return {
        "searchFilter": f"tags.`mlflow.parentRunId`='{parent_run_id}'",
        "orderByKey": f"metrics.`{objective}`",
        "orderByAsc": direction == "minimize",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": [
            *[f"metrics.`{name}`" for name in shown],
            *[f"params.`{name}`" for name in params],
            "attributes.`Duration`",
        ],
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "SHOWALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "compareRunSections": [],
        "compareRunCharts": [],
    }


def study_link(base: str, experiment_id: str, study: str) -> str:
    """The URL of a study's runs table; `workflowType` opens MLflow in its model-training mode."""
    return (
        f"{base}/?workflowType=machine_learning#/experiments/{experiment_id}/runs"
        f"?viewStateShareKey={quote(view_key(study))}"
    )


def run_link(base: str, experiment_id: str, run_id: str) -> str:
    """The URL of one run."""
    return f"{base}/?workflowType=machine_learning#/experiments/{experiment_id}/runs/{run_id}"
