"""Reading a whole study back from MLflow, a thousand runs at once: who they are, and their curves.

Besom's own SQLite file is asked for it in a few statements, without MLflow, which takes longer to import than they do.
Of any other store, or where MLflow's tables are not as they are known here, its client is asked, a call a run, so
curves are for those runs alone that are to be shown.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from besom.system.sqlite_files import read_only
from besom.tracking.store import Location, connect, translated
from besom.tracking.ui.views import view_tag
from besom.tracking.writers.entries import to_key
from besom.tracking.writers.tables import columns_of, unknown

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Curve = Sequence[tuple[int, float]]
"""A metric's values by epoch."""

_PARENT, _TRIAL = "mlflow.parentRunId", "besom.trial"


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """What MLflow has of a study: its parent run, the latest run of each trial by number, where they came from.

    `devices` are the names of those that trained, `provenance` the tags of its latest trial's run, `data` the name and
    the digest of its data set, `views` the tags of the views that MLflow's page has of the experiment.
    """

    experiment_id: str
    run_id: str
    run_ids: Mapping[int, str] = field(repr=False)
    devices: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict, repr=False)
    data: tuple[str, str] | None = None
    views: frozenset[str] = field(default=frozenset(), repr=False)


class StudyReader(Protocol):
    """Reads studies from one store. Every method raises StoreError when the store cannot be used."""

    cheap: bool
    """Whether the curves of hundreds of runs cost no more than those of one."""

    def study(self, token: str) -> StudyRecord | None:
        """Return the study whose parent run carries this tag `besom.token`, or None if there is none."""

    def curves(self, run_ids: Sequence[str], metric: str) -> dict[str, Curve]:
        """Return a metric's values by epoch of those of these runs that have any."""


def study_reader(location: Location) -> StudyReader | None:
    """Return what reads a store; None where nothing was recorded there yet."""
    if location.is_local and not location.database.is_file():
        return None
    return _FileReader(location) if location.is_local and _is_known(location) else _ClientReader(location)


def _is_known(location: Location) -> bool:
    try:
        found = columns_of(location.database)
    except sqlite3.Error:
        return True  # it will say what is wrong
    return not found or unknown(found, more=True) is None


def _record(
    experiment_id: str,
    run_id: str,
    runs: Sequence[tuple[str, Mapping[str, str]]],
    data: tuple[str, str] | None,
    experiment_tags: Iterable[str],
) -> StudyRecord:
    """Put a record together from the tags of the trials' runs, in the order in which those began.

    Of the experiment's own tags, the names alone are needed.
    """
    trials = [(found, tags) for found, tags in runs if tags.get(_TRIAL, "").isdecimal()]
    return StudyRecord(
        experiment_id=experiment_id,
        run_id=run_id,
        run_ids={int(tags[_TRIAL]): found for found, tags in trials},
        devices=tuple(dict.fromkeys(tags["besom.device"] for _, tags in trials if "besom.device" in tags)),
        provenance=trials[-1][1] if trials else {},
        data=data,
        views=frozenset(tag for tag in experiment_tags if tag.startswith(view_tag(""))),
    )


class _FileReader:
    """Reads Besom's own SQLite file."""

    cheap = True

    def __init__(self, location: Location) -> None:
        self._location = location

    def study(self, token: str) -> StudyRecord | None:
        with self._asking() as ask:
            parents = ask(
                "SELECT r.run_uuid, r.experiment_id FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid "
                "WHERE t.key = 'besom.token' AND t.value = ? AND r.lifecycle_stage = 'active'",
                token,
            )
            if not parents:
                return None
            ((run_id, experiment_id), *_) = parents
            tags: dict[str, dict[str, str]] = defaultdict(dict)
            for child, key, value in ask(
                f"SELECT t.run_uuid, t.key, t.value {_CHILDREN} JOIN tags t ON t.run_uuid = r.run_uuid "
                f"WHERE {_OF_PARENT} ORDER BY r.start_time",
                run_id,
            ):
                tags[child][key] = value
            data = ask(
                f"SELECT d.name, d.digest {_CHILDREN} JOIN inputs i ON i.destination_id = r.run_uuid "
                f"JOIN datasets d ON d.dataset_uuid = i.source_id WHERE {_OF_PARENT} LIMIT 1",
                run_id,
            )
            kept = ask("SELECT key FROM experiment_tags WHERE experiment_id = ?", experiment_id)
        return _record(str(experiment_id), run_id, list(tags.items()), next(iter(data), None), [key for (key,) in kept])

    def curves(self, run_ids: Sequence[str], metric: str) -> dict[str, Curve]:
        found: dict[str, list[tuple[int, float]]] = defaultdict(list)
        holes = ", ".join("?" * len(run_ids))
        with self._asking() as ask:
            for run_id, step, value in ask(
                f"SELECT run_uuid, step, value FROM metrics WHERE key = ? AND is_nan = 0 AND run_uuid IN ({holes}) "
                "ORDER BY step",
                to_key(metric), *run_ids,
            ):  # fmt: skip
                found[run_id].append((step, value))
        return dict(found)

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        path = self._location.database
        try:
            with read_only(path) as database:
                yield lambda text, *values: database.execute(text, values).fetchall()
        except sqlite3.Error as error:
            raise self._location.store.error(error) from error


_CHILDREN = "FROM tags p JOIN runs r ON r.run_uuid = p.run_uuid"
_OF_PARENT = f"p.key = '{_PARENT}' AND p.value = ? AND r.lifecycle_stage = 'active'"


class _ClientReader:
    """Asks a store through MLflow's client."""

    cheap = False

    def __init__(self, location: Location) -> None:
        self._location = location
        self._client: MlflowClient = connect(location, create=False)

    def study(self, token: str) -> StudyRecord | None:
        with translated(self._location):
            experiments = [experiment.experiment_id for experiment in self._client.search_experiments()]
            known = self._client.search_runs(experiments, f"tags.`besom.token` = '{token}'", max_results=1)
            if not known:
                return None
            parent = known[0].info
            runs = list(self._search(parent.experiment_id, f"tags.`{_PARENT}` = '{parent.run_id}'"))
            kept = self._client.get_experiment(parent.experiment_id).tags
        datasets = [one.dataset for run in runs[:1] if run.inputs for one in run.inputs.dataset_inputs]
        tagged = [(run.info.run_id, dict(run.data.tags)) for run in runs]
        data = (datasets[0].name, datasets[0].digest) if datasets else None
        return _record(str(parent.experiment_id), parent.run_id, tagged, data, kept)

    def curves(self, run_ids: Sequence[str], metric: str) -> dict[str, Curve]:
        key = to_key(metric)
        with translated(self._location):
            found = {run_id: self._client.get_metric_history(run_id, key) for run_id in run_ids}
        return {
            run_id: [(point.step, point.value) for point in sorted(points, key=lambda point: point.step)]
            for run_id, points in found.items()
            if points
        }

    def _search(self, experiment_id: str, which: str) -> Iterator[Run]:
        page = None
        while True:
            runs = self._client.search_runs(
                [experiment_id], which, order_by=["attributes.start_time ASC"], page_token=page
            )
            yield from runs
            page = runs.token
            if not page:
                return
