"""`self.logger.experiment` of Besom's logger: the calls of MLflow's client and of TensorBoard's writer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

from PIL import Image

from besom.errors import ConfigError
from besom.training.loggers.files import LoggedFiles, as_image
from besom.training.loggers.log import TrialLog

OWN_RUN = "the trial's own run"
"""The run id for a trial: MLflow gives the run its id in the parent process."""


class NotOffered(ConfigError, AttributeError):
    """A name that Besom's logger does not have."""


def not_offered(owner: type, name: str, called: str) -> NoReturn:
    """Raise NotOffered for an attribute of a class, with the methods that it has."""
    names = ", ".join(method for method, value in vars(owner).items() if method[0] != "_" and callable(value))
    raise NotOffered(
        f"{called}.{name}: Besom's logger has {names}, and no {name}; choose a logger that has it, such as "
        "logger=tensorboard"
    )


def _of_mlflow(method: Callable[..., None]) -> Callable[..., None]:
    """Return a method that also takes the run id which MLflow's client takes as its first argument."""

    @wraps(method)
    def call(self: Experiment, *arguments: Any, **keywords: Any) -> None:
        if arguments and isinstance(arguments[0], str) and arguments[0] == OWN_RUN:
            arguments = arguments[1:]
        keywords.pop("run_id", None)
        keywords.pop("synchronous", None)  # nothing waits for the run to be written
        keywords.pop("timestamp", None)  # it is that of the call
        method(self, *arguments, **keywords)

    return call


class Experiment:
    """Records what modules and callbacks log beside metrics: as files in the artifacts of the run, params and tags.

    The methods `log_…` and `set_…` are those of MLflow's client, with or without a run id before their arguments; the
    methods `add_…` are those of TensorBoard's SummaryWriter. Steps are those of the training by default.
    """

    def __init__(self, log: TrialLog, files: LoggedFiles, step: Callable[[], int]) -> None:
        self._log = log
        self._files = files
        self._step = step

    def __getattr__(self, name: str) -> NoReturn:
        not_offered(Experiment, name, "self.logger.experiment")

    @_of_mlflow
    def log_metric(self, key: str, value: Any, *, step: int | None = None) -> None:
        """Record a metric by step."""
        self._log.add({key: value}, self._at(step))

    @_of_mlflow
    def log_metrics(self, metrics: Mapping[str, Any], *, step: int | None = None) -> None:
        """Record metrics by step."""
        self._log.add(metrics, self._at(step))

    @_of_mlflow
    def log_param(self, key: str, value: Any) -> None:
        """Record a param, unless the config has one of that name."""
        self._log.describe(params={key: value})

    @_of_mlflow
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record params, except for those that the config has."""
        self._log.describe(params=params)

    @_of_mlflow
    def set_tag(self, key: str, value: Any) -> None:
        """Set a tag of the run."""
        self.set_tags({key: value})

    @_of_mlflow
    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags of the run."""
        for name in tags:
            if name.startswith(("besom.", "mlflow.")):
                raise ConfigError(
                    f"self.logger.experiment.set_tag: {name} has the prefix of Besom's and MLflow's own tags; take "
                    "another name"
                )
        self._log.describe(tags={name: str(value) for name, value in tags.items()})

    @_of_mlflow
    def log_image(
        self, image: Any, artifact_file: str | None = None, key: str | None = None, step: int | None = None
    ) -> None:
        """Write an image: to a path, or by a key and step as MLflow's page shows them side by side."""
        caller = "self.logger.experiment.log_image"
        if (artifact_file is None) is (key is None):
            raise ConfigError(f"{caller}: it takes either artifact_file or key; give one of them")
        if artifact_file is not None:
            as_image(image, caller).save(self._files.place(artifact_file, caller))
        else:
            self._show(as_image(image, caller), str(key), step, caller)

    @_of_mlflow
    def log_text(self, text: str, artifact_file: str) -> None:
        """Write a text."""
        self._files.write_text(str(text), artifact_file, "self.logger.experiment.log_text")

    @_of_mlflow
    def log_dict(self, dictionary: Mapping[str, Any], artifact_file: str) -> None:
        """Write a mapping as JSON, or as YAML by the suffix of the path."""
        if artifact_file.endswith((".yaml", ".yml")):
            import yaml

            text = yaml.safe_dump(dictionary, sort_keys=False, allow_unicode=True)
        else:
            text = json.dumps(dictionary, indent=2, default=str)
        self._files.write_text(text, artifact_file, "self.logger.experiment.log_dict")

    @_of_mlflow
    def log_figure(self, figure: Any, artifact_file: str, *, save_kwargs: Mapping[str, Any] | None = None) -> None:
        """Write a figure of Matplotlib or Plotly."""
        self._files.write_figure(figure, artifact_file, "self.logger.experiment.log_figure", save_kwargs)

    @_of_mlflow
    def log_artifact(self, local_path: str | Path, artifact_path: str | None = None) -> None:
        """Copy a file, or a folder's files, into a folder of the artifacts."""
        self._files.copy(local_path, artifact_path, "self.logger.experiment.log_artifact")

    @_of_mlflow
    def log_artifacts(self, local_dir: str | Path, artifact_path: str | None = None) -> None:
        """Copy a folder's files into a folder of the artifacts."""
        self._files.copy(local_dir, artifact_path, "self.logger.experiment.log_artifacts")

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None, *_: Any, **__: Any) -> None:
        """Record a metric by step."""
        self._log.add({tag: scalar_value}, self._at(global_step))

    def add_scalars(
        self, main_tag: str, tag_scalar_dict: Mapping[str, Any], global_step: int | None = None, *_: Any
    ) -> None:
        """Record metrics by step, as MAIN_TAG/NAME."""
        self._log.add({main_tag: tag_scalar_dict}, self._at(global_step))

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Write an image by its tag and step."""
        caller = "self.logger.experiment.add_image"
        self._show(as_image(img_tensor, caller, dataformats), tag, global_step, caller)

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Write images by TAG/NUMBER and step."""
        caller = "self.logger.experiment.add_images"
        for number, image in enumerate(img_tensor):
            self._show(as_image(image, caller, dataformats.replace("N", "")), f"{tag}/{number}", global_step, caller)

    def add_figure(
        self, tag: str, figure: Any, global_step: int | None = None, close: bool = True, walltime: float | None = None
    ) -> None:
        """Write a figure, or figures, of Matplotlib as images by their tag and step."""
        caller = "self.logger.experiment.add_figure"
        for one in figure if isinstance(figure, list) else [figure]:
            if not hasattr(one, "savefig"):
                raise ConfigError(f"{caller}: {type(one).__name__} is no figure; give one of Matplotlib")
            picture = BytesIO()
            one.savefig(picture, format="png")
            self._show(Image.open(picture), tag, global_step, caller)
            if close:
                _close(one)

    def add_text(self, tag: str, text_string: str, global_step: int | None = None, *_: Any) -> None:
        """Write a text to texts/TAG/STEP.md."""
        path = f"texts/{tag}/{self._at(global_step)}.md"
        self._files.write_text(str(text_string), path, "self.logger.experiment.add_text")

    def flush(self) -> None:
        """Pass on what was logged."""
        self._log.flush()

    def close(self) -> None:
        """Do nothing: the run ends with the trial."""

    def _show(self, image: Image.Image, key: str, step: int | None, caller: str) -> None:
        self._files.write_image(image, key, self._at(step), caller)
        self._log.describe(tags={"mlflow.loggedImages": "true"})  # without which MLflow's page shows none

    def _at(self, step: int | None) -> int:
        return self._step() if step is None else int(step)


def _close(figure: Any) -> None:
    from matplotlib import pyplot

    pyplot.close(figure)
