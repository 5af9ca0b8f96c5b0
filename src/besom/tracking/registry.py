"""The models of recorded runs: downloaded for predictions, and registered in MLflow's model registry.

A logged model is a pyfunc model with the loader besom.serving: the run's weights (safetensors), description (JSON) and
config (YAML). So it includes its preprocessing, reads a table's columns by name, text columns too, and loads where
MLflow must not unpickle anything. Logging it does not import torch.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from besom.config.model_inputs import MODEL_FILES, Inputs, Kind, prediction_columns, read_description
from besom.config.targets.trust import Trust, needed_to_serve
from besom.errors import ConfigError, RunNotFound
from besom.system.store_errors import is_absent
from besom.tracking.places import file_of
from besom.tracking.runs import Runs, check_there, find_run
from besom.tracking.store import Location, connect, translated
from besom.tracking.tags import Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.models import ModelSignature

LOADER = "besom.serving"
CHAMPION = "champion"

_PINNED = ("besom", "torch", "pytorch-lightning", "hydra-core", "numpy", "pandas", "safetensors")
_NAMED = re.compile(r"models:/(?P<name>[^/:@]+)(?:@(?P<alias>[\w-]+)|/(?P<version>\d+))")


def fetch(location: Location, reference: str, directory: Path) -> Run:
    """Download the files of a run's model into a folder; return the run.

    `reference` is the run's id, models:/NAME@ALIAS or models:/NAME/VERSION.
    Raises RunNotFound when there is no such run or model, or the run has no model that can be rebuilt.
    """
    client = connect(location, create=False)
    run_id = _registered_run(client, location, reference) if reference.startswith("models:") else reference
    run = find_run(client, location, run_id)
    _download(client, location, run, directory)
    return run


def register(
    location: Location, run_id: str, name: str, *, alias: str | None = CHAMPION, trust: Trust | None = None
) -> str:
    """Register a run's model as the next version of `name`, and set `alias` to it.

    A run whose model already is a version of that name keeps that version. Returns the version. With `trust`, the model
    must be one that `trust` allows to build; without, the user has composed it himself. Raises ConfigError if it is
    not, and for a name or alias that MLflow refuses, RunNotFound as `fetch` does, StoreError.
    """
    check_names(name, alias)
    client = connect(location, create=False)
    run = find_run(client, location, run_id)
    if trust is not None:
        trust.resolve(Runs(location).config(run_id), "model")
    with translated(location):
        version = _version_of(client, run_id, name)
    if version is None:
        with tempfile.TemporaryDirectory() as folder:
            model = _logged(client, run) or _log(client, location, run, Path(folder))
        with translated(location):
            _make_name(client, name)
            # Without a server, MLflow resolves models:/ID in the default store, which may be another one.
            served = location.uri.startswith(("http://", "https://"))
            source = f"models:/{model.model_id}" if served else model.artifact_location
            version = client.create_model_version(name, source, run_id, model_id=model.model_id).version
    if alias is not None:
        with translated(location):
            client.set_registered_model_alias(name, alias, str(version))
    return str(version)


def version_of(location: Location, run_id: str, name: str) -> str | None:
    """Return the latest version of a registered model that came from this run. Raises StoreError."""
    with translated(location):
        return _version_of(connect(location, create=False), run_id, name)


def serving_needs(location: Location, run_id: str) -> str | None:
    """Return a sentence about what loading or serving a run's model requires; None if nothing."""
    return needed_to_serve(Runs(location).config(run_id).get("model"))


def check_names(name: str, alias: str | None) -> None:
    """Raise ConfigError for a name or an alias that MLflow would refuse."""
    if not re.fullmatch(r"[\w][\w .-]*", name):
        raise ConfigError(f"register: '{name}' is no name of a model; use letters, digits, space, _ - and .")
    if alias is not None and (not re.fullmatch(r"[\w-]+", alias) or re.fullmatch(r"(?i)latest|v\d+", alias)):
        raise ConfigError(
            f"--alias: '{alias}' is no alias; use letters, digits, _ and -, but neither latest nor v and a number"
        )


def _registered_run(client: MlflowClient, location: Location, reference: str) -> str:
    from mlflow.exceptions import MlflowException

    found = _NAMED.fullmatch(reference)
    if found is None:
        raise RunNotFound(f"'{reference}' names no registered model; write models:/NAME@ALIAS or models:/NAME/VERSION")
    name, alias, version = found["name"], found["alias"], found["version"]
    try:
        model = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, version)
    except MlflowException as error:
        if not is_absent(error):
            raise location.store.error(error) from error
        raise RunNotFound(f"'{reference}' is not in the registry; besom register RUN NAME puts it there") from error
    if not model.run_id:
        raise RunNotFound(f"'{reference}' belongs to no run, so it is none of Besom's; load it with mlflow.pyfunc")
    return str(model.run_id)


def _download(client: MlflowClient, location: Location, run: Run, directory: Path) -> None:
    run_id = run.info.run_id
    with translated(location):
        paths = {file.path for file in client.list_artifacts(run_id)}
    if missing := [name for name in MODEL_FILES if name not in paths]:
        check_there(run)
        raise RunNotFound(f"run '{run_id}' left no model ({missing[0]} is missing): {_why(run)}")
    with translated(location):
        for name in MODEL_FILES:
            client.download_artifacts(run_id, name, str(directory))


def _why(run: Run) -> str:
    if not any(tag.startswith("besom.") for tag in run.data.tags):
        return "it was not recorded by Besom; take one that was"
    if run.info.status != "FINISHED":
        return f"it ended {run.data.tags.get(Tag.STATE, run.info.status)}; take one that finished"
    return "its LightningModule or its data is not Besom's, so it cannot be rebuilt; load its weights yourself"


def _version_of(client: MlflowClient, run_id: str, name: str) -> str | None:
    """Return the latest version of a registered model that came from this run."""
    versions = client.search_model_versions(f"name = '{name}'")
    own = [int(version.version) for version in versions if version.run_id == run_id]
    return str(max(own)) if own else None


def _logged(client: MlflowClient, run: Run) -> LoggedModel | None:
    """Return the model that was logged for a run before."""
    from mlflow.exceptions import MlflowException

    for output in run.outputs.model_outputs if run.outputs else []:
        with suppress(MlflowException):  # deleted since
            model = client.get_logged_model(output.model_id)
            if model.tags.get(Tag.LOADER) == LOADER and str(model.status) == "READY" and _is_there(model):
                return model
    return None


def _is_there(model: LoggedModel) -> bool:
    folder = file_of(model.artifact_location)
    return folder is None or folder.exists()


def _log(client: MlflowClient, location: Location, run: Run, folder: Path) -> LoggedModel:
    """Log the model of a run; if that fails, the logged model is marked FAILED and is never used."""
    from mlflow.entities import LoggedModelOutput

    files, packed = folder / "besom", folder / "model"
    files.mkdir()
    _download(client, location, run, files)
    description = read_description(files)
    run_id = run.info.run_id
    with translated(location):
        tags = {Tag.LOADER: LOADER}
        model = client.create_logged_model(run.info.experiment_id, "model", source_run_id=run_id, tags=tags)
        status: Literal["READY", "FAILED"] = "FAILED"
        try:
            _pack(files, packed, model, description, run)
            client.log_model_artifacts(model.model_id, str(packed))
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
            status = "READY"
        finally:
            client.finalize_logged_model(model.model_id, status)
    return model


def _pack(files: Path, packed: Path, model: LoggedModel, description: Mapping[str, Any], run: Run) -> None:
    import mlflow.pyfunc
    from mlflow.models import Model

    card = Model(
        artifact_path=model.artifact_location,
        run_id=run.info.run_id,
        model_uuid=model.model_id,
        model_id=model.model_id,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow asks for an input example, which would be a row of the user's data
        mlflow.pyfunc.save_model(
            str(packed),
            loader_module=LOADER,
            data_path=str(files),
            mlflow_model=card,
            signature=signature_of(description),
            pip_requirements=requirements(run.data.tags),
        )


def signature_of(description: Mapping[str, Any]) -> ModelSignature:
    """Return the signature of a model with this description: inputs and outputs by name and type.

    Images are a tensor [-1, height, width] of raw values; all other inputs are columns: text as strings, numbers and
    booleans as doubles, because where MLflow expects a boolean it converts any text and null to one.
    """
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema, TensorSpec

    inputs = Inputs.of_json(description.get("inputs"), description["features"])
    input_specs: list[Any]
    if inputs.picture is not None:
        input_specs = [TensorSpec(np.dtype(np.float32), (-1, *inputs.picture))]
    else:
        kinds = {column.name: "string" if column.kind is Kind.TEXT else "double" for column in inputs.columns}
        input_specs = [ColSpec(kind, name) for name, kind in kinds.items()]
    classes = description["spec"]["classes"]
    answers = prediction_columns(classes, probabilities=True)
    outputs: list[Any] = [ColSpec("string" if classes and name == "prediction" else "float", name) for name in answers]
    return ModelSignature(inputs=Schema(input_specs), outputs=Schema(outputs))


def requirements(tags: Mapping[str, str]) -> list[str]:
    """Return the requirements of a server: the versions in the run's tags, by default the installed ones."""
    recorded = {"besom": tags.get(Tag.VERSION)}
    pins = {name: recorded.get(name) or tags.get(f"{Tag.VERSION}.{name}") or metadata.version(name) for name in _PINNED}
    # PyPI has 2.9.1, but not 2.9.1+cpu; an installed 2.9.1+cpu satisfies the former.
    return [f"{name}=={version.partition('+')[0]}" for name, version in pins.items()]


def _make_name(client: MlflowClient, name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
