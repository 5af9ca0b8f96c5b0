"""Reading recorded runs back: a run's config, its metrics by its axis, the latest study."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from besom.config.units import Unit
from besom.errors import RunNotFound
from besom.system.store_errors import is_absent
from besom.tracking.code import FOLDER
from besom.tracking.places import file_of
from besom.tracking.store import Location, connect, translated
from besom.tracking.tags import STUDY, Tag
from besom.tracking.ui.views import has_view
from besom.tracking.writers.entries import CONFIG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A recorded run; `history` maps a number on its axis, such as an epoch, to its metrics.

    It leaves out the metrics that the trial's logger received.
    """

    run_id: str
    name: str
    status: str
    config: Mapping[str, Any]
    tags: Mapping[str, str]
    digest: str | None
    history: Mapping[int, Mapping[str, float]]

    @property
    def axis(self) -> Unit:
        """The axis by which its metrics are recorded."""
        return Unit(self.tags.get(Tag.AXIS, Unit.EPOCH))


@dataclass(frozen=True, kw_only=True)
class RecordedStudy:
    """The parent run of a study; `viewed` is whether the experiment has a shared view of it."""

    name: str
    run_id: str
    experiment_id: str
    viewed: bool


def find_run(client: MlflowClient, location: Location, run_id: str) -> Run:
    """Return a run that is not a study's parent run. Raises RunNotFound if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if not is_absent(error):
            raise location.store.error(error) from error
        raise RunNotFound(
            f"run '{run_id}' is not in {location.directory}; `besom ui` lists the runs, "
            "MLFLOW_TRACKING_URI chooses another store"
        ) from error
    if run.data.tags.get(Tag.KIND) == STUDY:
        best = run.data.tags.get(Tag.BEST_RUN, "none yet")
        raise RunNotFound(f"run '{run_id}' is a study's parent run; take one of its trials, such as the best: {best}")
    return run


def check_there(run: Run) -> None:
    """Raise RunNotFound if Besom recorded the run's artifacts on this machine, and they are gone."""
    folder = file_of(run.info.artifact_uri)
    is_besoms = any(tag.startswith("besom.") for tag in run.data.tags)

    if is_besoms and folder is not None and not folder.exists():
        raise RunNotFound(f"run '{run.info.run_id}' has lost its files: {folder} is not there; bring that folder back")


def config_of(
    client: MlflowClient, location: Location, run_id: str, *, of_another_app: bool = False
) -> Mapping[str, Any]:
    """Return a run's config as it was recorded; raises RunNotFound when it has none, or none of Besom's.

    With `of_another_app`, it may be any config.
    """
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as scratch:
        try:  # not `mlflow.artifacts.load_text`, which reads MLflow's default store
            path = client.download_artifacts(run_id, CONFIG, scratch)
        except (MlflowException, OSError) as error:
            if not is_absent(error):
                raise location.store.error(error) from error
            check_there(find_run(client, location, run_id))
            raise RunNotFound(
                f"run '{run_id}' has no artifact {CONFIG}; only runs that Besom recorded can be used"
            ) from error
        text = Path(path).read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    if not isinstance(config, dict) or ("model" not in config and not of_another_app):
        raise RunNotFound(
            f"run '{run_id}' never had a config of Besom's: it is another Hydra app's, or failed while it was "
            f"composed; see its tag {Tag.REASON}"
        )
    return config


class Runs:
    """Reads the runs of a store."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._client: MlflowClient = connect(location, create=False)

    def run(self, run_id: str) -> RecordedRun:
        """Return a run with its config and history.

        Raises RunNotFound when there is no such run, or it was not recorded by Besom.
        """
        run = find_run(self._client, self._location, run_id)
        with translated(self._location):
            history: dict[int, dict[str, float]] = {}
            by_step = json.loads(run.data.tags.get(Tag.BY_STEP, "[]"))
            for name in run.data.metrics.keys() - set(by_step):
                for metric in self._client.get_metric_history(run_id, name):
                    history.setdefault(metric.step, {})[name] = metric.value
        datasets = run.inputs.dataset_inputs if run.inputs else []
        return RecordedRun(
            run_id=run_id,
            name=run.info.run_name,
            status=run.info.status,
            config=config_of(self._client, self._location, run_id, of_another_app=Tag.APP in run.data.tags),
            tags=dict(run.data.tags),
            digest=datasets[0].dataset.digest if datasets else None,
            history=history,
        )

    def config(self, run_id: str) -> Mapping[str, Any]:
        """Return a run's config as it was recorded; raises RunNotFound when it has none."""
        return config_of(self._client, self._location, run_id)

    def code(self, run: RecordedRun) -> Mapping[str, bytes]:
        """Return the files of the code that a run was trained with, by their paths; none if they were not kept.

        They are artifacts of the run, or of one of its ancestors.
        """
        from mlflow.exceptions import MlflowException

        holder: str | None = run.run_id if Tag.CODE in run.tags else None
        while holder is not None:
            with tempfile.TemporaryDirectory() as scratch, contextlib.suppress(MlflowException, OSError):
                folder = self._client.download_artifacts(holder, f"{FOLDER}/{run.tags[Tag.CODE]}", scratch)
                paths = [path for path in Path(folder).rglob("*") if path.is_file()]
                if found := {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}:
                    return found
            with translated(self._location):
                holder = self._client.get_run(holder).data.tags.get(Tag.PARENT_RUN)
        return {}

    def text(self, run_id: str, path: str) -> str | None:
        """Return the text of an artifact, None if the run does not have it."""
        from mlflow.exceptions import MlflowException

        with tempfile.TemporaryDirectory() as scratch, contextlib.suppress(MlflowException, OSError):
            return Path(self._client.download_artifacts(run_id, path, scratch)).read_text(encoding="utf-8")
        return None

    def reproductions(self, run_id: str) -> list[str]:
        """Return the ids of the runs that reproduce a run, the latest first."""
        with translated(self._location):
            experiments = [experiment.experiment_id for experiment in self._client.search_experiments()]
            query = f"tags.`{Tag.REPRODUCES}` = '{run_id}'"
            found = self._client.search_runs(experiments, query, order_by=["attributes.start_time DESC"])
        return [run.info.run_id for run in found]

    def download(self, run_id: str, directory: str) -> None:
        """Download a run's artifacts into a folder."""
        with translated(self._location):
            self._client.download_artifacts(run_id, "", directory)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags on a run."""
        with translated(self._location):
            for name, value in tags.items():
                self._client.set_tag(run_id, name, value)

    def latest_study(self) -> RecordedStudy | None:
        """Return the study that was started most recently, if any."""
        with translated(self._location):
            experiments = [experiment.experiment_id for experiment in self._client.search_experiments()]
            runs = self._client.search_runs(
                experiments,
                f"tags.`{Tag.KIND}` = '{STUDY}'",
                order_by=["attributes.start_time DESC"],
                max_results=1,
            )
        if not runs:
            return None
        (run,) = runs
        name, experiment = run.data.tags[Tag.STUDY], run.info.experiment_id
        with translated(self._location):
            viewed = has_view(name, self._client.get_experiment(experiment).tags)
        return RecordedStudy(name=name, run_id=run.info.run_id, experiment_id=experiment, viewed=viewed)
