"""Reading a whole study from MLflow, perhaps a thousand runs: their ids, tags and metric curves.

Besom's own SQLite file is read with a few SQL statements, which take less time than importing MLflow. Any other store,
or one whose tables are unknown, is read through MLflow's client with one call per run, so curves are read only for the
runs that are shown.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from besom.config.units import Unit
from besom.system.sqlite_files import read_only
from besom.tracking.store import Location, connect, translated
from besom.tracking.tags import Tag
from besom.tracking.ui.views import view_tag
from besom.tracking.writers.entries import to_key
from besom.tracking.writers.tables import columns_of, schema_difference

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Curve = Sequence[tuple[int, float]]
"""A metric's values by the axis of its run."""


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """A study as recorded in MLflow: its parent run, and the latest run of each trial by number.

    `devices` are the names of the devices that trained, `provenance` the tags of the latest trial's run, `data` the
    name and digest of the data set, `views` the experiment's tags that hold shared views.
    `axes` are the axes of runs that are not recorded by epoch.
    """

    experiment_id: str
    run_id: str
    run_ids: Mapping[int, str] = field(repr=False)
    devices: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict, repr=False)
    data: tuple[str, str] | None = None
    views: frozenset[str] = field(default=frozenset(), repr=False)
    axes: Mapping[str, Unit] = field(default_factory=dict, repr=False)

    def axis(self, run_id: str) -> Unit:
        """Return the axis of a run."""
        return self.axes.get(run_id, Unit.EPOCH)


class StudyReader(Protocol):
    """Reads studies from one store. Every method raises StoreError when the store cannot be used."""

    cheap: bool
    """True if reading the curves of hundreds of runs costs no more than those of one."""

    def study(self, token: str) -> StudyRecord | None:
        """Return the study whose parent run has this tag `besom.token`, or None if there is none."""

    def curves(self, run_ids: Sequence[str], metric: str) -> dict[str, Curve]:
        """Return a metric's values by the axis of its run, for each of these runs that has any."""


def study_reader(location: Location) -> StudyReader | None:
    """Return a reader for a store; None if nothing has been recorded there yet."""
    if location.is_local and not location.database.is_file():
        return None
    return _FileReader(location) if location.is_local and _has_known_schema(location) else _ClientReader(location)


def _has_known_schema(location: Location) -> bool:
    try:
        columns = columns_of(location.database)
    except sqlite3.Error:
        return True  # the reader will raise the error
    return not columns or schema_difference(columns, allow_more=True) is None


def _record(
    experiment_id: str,
    run_id: str,
    runs: Sequence[tuple[str, Mapping[str, str]]],
    data: tuple[str, str] | None,
    experiment_tags: Iterable[str],
) -> StudyRecord:
    """Build a record from the tags of the trials' runs, in the order in which they started.

    Of the experiment's tags, only the names are needed.
    """
    trials = [(child, tags) for child, tags in runs if tags.get(Tag.TRIAL, "").isdecimal()]
    return StudyRecord(
        experiment_id=experiment_id,
        run_id=run_id,
        run_ids={int(tags[Tag.TRIAL]): child for child, tags in trials},
        devices=tuple(dict.fromkeys(tags[Tag.DEVICE] for _, tags in trials if Tag.DEVICE in tags)),
        provenance=trials[-1][1] if trials else {},
        data=data,
        views=frozenset(tag for tag in experiment_tags if tag.startswith(view_tag(""))),
        axes={child: Unit(tags[Tag.AXIS]) for child, tags in trials if Tag.AXIS in tags},
    )


class _FileReader:
    """Reads Besom's own SQLite file."""

    cheap = True

    def __init__(self, location: Location) -> None:
        self._location = location

    def study(self, token: str) -> StudyRecord | None:
        with self._queries() as query:
            parents = query(
                "SELECT r.run_uuid, r.experiment_id FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid "
                f"WHERE t.key = '{Tag.TOKEN}' AND t.value = ? AND r.lifecycle_stage = 'active'",
                token,
            )
            if not parents:
                return None
            ((run_id, experiment_id), *_) = parents
            tags: dict[str, dict[str, str]] = defaultdict(dict)
            for child, key, value in query(
                f"SELECT t.run_uuid, t.key, t.value {_CHILDREN} JOIN tags t ON t.run_uuid = r.run_uuid "
                f"WHERE {_OF_PARENT} ORDER BY r.start_time",
                run_id,
            ):
                tags[child][key] = value
            data = query(
                f"SELECT d.name, d.digest {_CHILDREN} JOIN inputs i ON i.destination_id = r.run_uuid "
                f"JOIN datasets d ON d.dataset_uuid = i.source_id WHERE {_OF_PARENT} LIMIT 1",
                run_id,
            )
            view_tags = query("SELECT key FROM experiment_tags WHERE experiment_id = ?", experiment_id)
        return _record(
            str(experiment_id), run_id, list(tags.items()), next(iter(data), None), [key for (key,) in view_tags]
        )

    def curves(self, run_ids: Sequence[str], metric: str) -> dict[str, Curve]:
        points: dict[str, list[tuple[int, float]]] = defaultdict(list)
        marks = ", ".join("?" * len(run_ids))
        with self._queries() as query:
            for run_id, step, value in query(
                f"SELECT run_uuid, step, value FROM metrics WHERE key = ? AND is_nan = 0 AND run_uuid IN ({marks}) "
                "ORDER BY step",
                to_key(metric), *run_ids,
            ):  # fmt: skip
                points[run_id].append((step, value))
        return dict(points)

    @contextmanager
    def _queries(self) -> Iterator[Any]:
        path = self._location.database
        try:
            with read_only(path) as database:
                yield lambda text, *values: database.execute(text, values).fetchall()
        except sqlite3.Error as error:
            raise self._location.store.error(error) from error


_CHILDREN = "FROM tags p JOIN runs r ON r.run_uuid = p.run_uuid"
_OF_PARENT = f"p.key = '{Tag.PARENT_RUN}' AND p.value = ? AND r.lifecycle_stage = 'active'"


class _ClientReader:
    """Reads a store through MLflow's client."""

    cheap = False

    def __init__(self, location: Location) -> None:
        self._location = location
        self._client: MlflowClient = connect(location, create=False)

    def study(self, token: str) -> StudyRecord | None:
        with translated(self._location):
            experiments = [experiment.experiment_id for experiment in self._client.search_experiments()]
            parents = self._client.search_runs(experiments, f"tags.`{Tag.TOKEN}` = '{token}'", max_results=1)
            if not parents:
                return None
            parent = parents[0].info
            runs = list(self._search(parent.experiment_id, f"tags.`{Tag.PARENT_RUN}` = '{parent.run_id}'"))
            experiment_tags = self._client.get_experiment(parent.experiment_id).tags
        datasets = [item.dataset for run in runs[:1] if run.inputs for item in run.inputs.dataset_inputs]
        tagged = [(run.info.run_id, dict(run.data.tags)) for run in runs]
        data = (datasets[0].name, datasets[0].digest) if datasets else None
        return _record(str(parent.experiment_id), parent.run_id, tagged, data, experiment_tags)

    def curves(self, run_ids: Sequence[str], metric: str) -> dict[str, Curve]:
        key = to_key(metric)
        with translated(self._location):
            histories = {run_id: self._client.get_metric_history(run_id, key) for run_id in run_ids}
        return {
            run_id: [(point.step, point.value) for point in sorted(points, key=lambda point: point.step)]
            for run_id, points in histories.items()
            if points
        }

    def _search(self, experiment_id: str, query: str) -> Iterator[Run]:
        page = None
        while True:
            runs = self._client.search_runs(
                [experiment_id], query, order_by=["attributes.start_time ASC"], page_token=page
            )
            yield from runs
            page = runs.token
            if not page:
                return
