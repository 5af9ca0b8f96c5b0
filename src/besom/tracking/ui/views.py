"""Shared views of the MLflow UI: a study's runs table, best trial first, and its dashboard; and links to UI pages.

The format of a view is internal to MLflow's page: it was read off the UI of versions 3.10 to 3.18, and a browser test
holds it. Everything that depends on it is here and in landing.js; `tracking.views=off` disables it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Container, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from besom.config.objectives import BEST
from besom.tracking.tags import Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient

_TAG_MAX = 5000  # characters of an experiment's tag, before MLflow 3.15
_SHOWN_MAX = 30  # parameters; the user can add more columns in the UI
_LEADERS = "FIRST_20_RUNS"  # the runs whose curves the charts show; parallel coordinates show every trial
_SECTION = "study"


def view_key(study: str) -> str:
    """Return the key of a study's view, valid in a tag and a URL."""
    key = re.sub(r"[^A-Za-z0-9_-]+", "-", study)
    return f"besom-{key}" if key == study else f"besom-{key}-{hashlib.sha256(study.encode()).hexdigest()[:8]}"


def view_tag(key: str) -> str:
    """Return the name of the experiment tag that holds the view with that key."""
    return f"mlflow.sharedViewState.{key}"


def has_view(study: str, tags: Container[str]) -> bool:
    """Return whether the tags of an experiment hold the view of a study."""
    return view_tag(view_key(study)) in tags


def wanted(views: Any) -> bool:
    """Return whether views are published: unless `tracking.views` is `off`, if MLflow's page is of a known version."""
    return views not in ("off", False) and metadata.version("mlflow").startswith("3.")


def study_view(
    *,
    study: str,
    parent_run_id: str,
    objective: str,
    direction: str,
    examples: Sequence[Mapping[str, Any]],
    important: Sequence[str] = (),
    shown: int = _SHOWN_MAX,
) -> dict[str, Any]:
    """Return the state of MLflow's page that shows a study's trials, best first, as a table and as a dashboard.

    The table's columns are the trial's best objective, the first `shown` sampled parameters, and, as signs of
    overfitting, the objective on the training data and the validation loss. `examples` are sets of sampled parameters
    that contain each parameter and each choice at least once: a column is as wide as its longest value. The charts are
    the parameters against the best objective, and for the leaders the objective by epoch, its best values, and those
    over the most important parameter, the first of `important` that is sampled.
    """
    best = f"{BEST}{objective}"
    params = list(dict.fromkeys(name for example in examples for name in example))[:shown]
    columns = _columns(objective, params, examples)
    widths = {
        "attributes.`Run Name`": _width(f"{study}-000"),
        "runDateAndNestInfo": 150,
        **columns,
        "duration": 80,
    }
    return {
        # A finalist is a child run as well, but no trial.
        "searchFilter": f"tags.`{Tag.PARENT_RUN}`='{parent_run_id}' AND tags.`{Tag.TRIAL}`!=''",
        "orderByKey": f"metrics.`{best}`",
        "orderByAsc": direction == "minimize",
        **_ALL_RUNS,
        "selectedColumns": list(columns),
        "columnOrder": list(widths),
        "columnWidths": widths,
        **_LAYOUT,
        "compareRunCharts": _charts(objective, params, examples, important),
    }


_ALL_RUNS = {
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "modelVersionFilter": "All Runs",
    "datasetsFilter": [],
}
_LAYOUT = {
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "runsHiddenMode": _LEADERS,
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": True,
    "compareRunSections": [
        {
            "uuid": _SECTION,
            "name": "Study",
            "display": True,
            "isReordered": False,
            "deleted": False,
            "isGenerated": False,
            "columns": 2,
        }
    ],
}


def _columns(objective: str, params: Sequence[str], examples: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the widths of the table's columns by their keys, the best objective first."""
    best = f"{BEST}{objective}"
    columns = {f"metrics.`{best}`": _width(best, sorted_by=True)}
    for name in params:
        columns[f"params.`{name}`"] = _width(name, *(str(example[name]) for example in examples if name in example))
    for name in (f"train/{objective.rpartition('/')[2]}", "val/loss"):
        columns[f"metrics.`{name}`"] = _width(name)
    return columns


def _charts(
    objective: str, params: Sequence[str], examples: Sequence[Mapping[str, Any]], important: Sequence[str]
) -> list[dict[str, Any]]:
    best = f"{BEST}{objective}"
    return [
        _chart("PARALLEL", selectedParams=_common(params, examples), selectedMetrics=[best], showAllRuns=True),
        _chart("LINE", metricKey=objective, selectedMetricKeys=[objective], xAxisKey="step", lineSmoothness=0),
        *[
            _chart("SCATTER", xaxis={"type": "PARAM", "key": name}, yaxis={"type": "METRIC", "key": best})
            for name in _most_important(important, params, examples)
        ],
        _chart("BAR", metricKey=best),
    ]


def _width(*texts: str, sorted_by: bool = False) -> int:
    """Return the pixels that a column needs for its header, with `sorted_by` the sort arrow, and its values."""
    return max(90, min(200, 30 + 7 * max(map(len, texts)))) + 16 * sorted_by


def _common(params: Sequence[str], examples: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the parameters that every trial has: parallel coordinates leave out a trial without one of them."""
    return [name for name in params if all(name in example for example in examples)] or list(params)


def _most_important(
    important: Sequence[str], params: Sequence[str], examples: Sequence[Mapping[str, Any]]
) -> Sequence[str]:
    """Return the most important parameter, as a list of at most one; before that is known, a numeric one."""
    known = [name for name in important if name in params]
    numbers = [name for name in params if any(isinstance(example.get(name), int | float) for example in examples)]
    return [*known, *numbers, *params][:1]


def _chart(kind: str, **settings: Any) -> dict[str, Any]:
    return {
        "uuid": f"{_SECTION}-{kind.lower()}",
        "type": kind,
        "metricSectionId": _SECTION,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
        **settings,
    }


def saved_view(name: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a view in the format of an experiment's tag; the UI's menu Views lists it by its name."""
    now = int(time.time() * 1000)
    return {"name": name, "createdAt": now, "updatedAt": now, "state": json.dumps(state)}


def saved_views(study: str, **about: Any) -> list[dict[str, Any]]:
    """Return a study's view in the format of an experiment's tag, and a smaller one if it is too large for some stores.

    `about` are the arguments of `study_view` besides the study's name.
    """
    sizes = range(_SHOWN_MAX, -1, -1)
    whole, *smaller = (saved_view(study, study_view(study=study, shown=shown, **about)) for shown in sizes)
    if len(json.dumps(whole)) <= _TAG_MAX:
        return [whole]
    return [whole, next((view for view in smaller if len(json.dumps(view)) <= _TAG_MAX), smaller[-1])]


def publish(client: MlflowClient, experiment_id: str, key: str, views: Sequence[Mapping[str, Any]]) -> None:
    """Set the first of these views that is not too large for the store as a tag of the experiment."""
    from mlflow.exceptions import MlflowException

    for view in views:
        try:
            client.set_experiment_tag(experiment_id, view_tag(key), json.dumps(view))
            return
        except MlflowException:
            if view is views[-1]:
                raise


def study_link(base: str, experiment_id: str, study: str, *, charts: bool = False) -> str:
    """Return the URL of a study's runs table, or with `charts` of its dashboard, if its view is published."""
    mode = "&compareRunsMode=CHART" if charts else ""
    return f"{runs_link(base, experiment_id)}&viewStateShareKey={quote(view_key(study))}{mode}"


def runs_link(base: str, experiment_id: str) -> str:
    """Return the URL of all runs of an experiment; `workflowType` opens MLflow in its model-training mode."""
    return f"{base}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def run_link(base: str, experiment_id: str, run_id: str) -> str:
    """Return the URL of a run's page; relative to MLflow's pages if `base` is empty."""
    return f"{base and base + '/'}#/experiments/{experiment_id}/runs/{run_id}"


def compare_link(base: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Return the URL of the page that compares these runs.

    No URL can set its switches "Show diff only".
    """
    runs, experiments = (quote(json.dumps(list(ids), separators=(",", ":"))) for ids in (run_ids, [experiment_id]))
    return f"{base and base + '/'}#/compare-runs?runs={runs}&experiments={experiments}"


def landing_page(page: str) -> str:
    """Return MLflow's page with landing.js ahead of its own scripts."""
    script = Path(__file__).with_name("landing.js").read_text(encoding="utf-8")
    return page.replace("<head>", f"<head><script>{script}</script>", 1)
