"""A trained model on disk: weights as safetensors, everything else as JSON. Loading unpickles nothing.

model.safetensors   the best weights, and the scaler's two vectors
model.json          the data's spec and feature names, and the model's inputs (besom.config.model_inputs)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.parameter import is_lazy

from besom.config.hydra_versions import build
from besom.config.model_inputs import CONFIG, DESCRIPTION, WEIGHTS, Inputs, damaged, read_description
from besom.config.targets.check import check_targets
from besom.config.targets.trust import Trust
from besom.data import DataSpec, InMemoryDataModule, Task
from besom.data.scaling import Scaler
from besom.errors import ConfigError, in_one_line
from besom.models import SupervisedModule
from besom.models.weights import plain_name, uncompiled


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """A trained model with the preprocessing of its training."""

    module: SupervisedModule
    scaler: Scaler
    inputs: Inputs

    @property
    def spec(self) -> DataSpec:
        """The data's shape and task."""
        return self.module.spec

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name per column of the raw inputs."""
        return self.inputs.features

    def predict(self, x: Tensor) -> Tensor:
        """Return probabilities [n, classes] (binary: [n]) or values [n] for raw inputs [n, features].

        Pictures [n, height, width], or one [height, width], are accepted if the model reads pictures. Raises DataError.
        """
        return self.module.predict(self.scaler.apply(self.inputs.as_rows(x, "input")))


def save(module: pl.LightningModule, data: pl.LightningDataModule, directory: Path) -> None:
    """Write the model into `directory`.

    For a module or data module that is not Besom's, only the weights are recorded: it cannot be rebuilt from here. They
    have the names of a module that is not compiled. What `get_extra_state` adds is not recorded, unless it is a tensor.
    """
    tensors: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor) and not is_lazy(tensor):
            tensor = tensor.cpu().contiguous()
            place = tensor.untyped_storage().data_ptr()
            # Only tensors that share memory are copied, for which safetensors has no form.
            tensors[f"module.{plain_name(name)}"] = tensor.clone() if place in written else tensor
            written.add(place)
    if isinstance(module, SupervisedModule) and isinstance(data, InMemoryDataModule):
        scaler = data.scaler
        tensors |= {
            "scaler.shift": scaler.shift.contiguous().cpu(),
            "scaler.scale": scaler.scale.contiguous().cpu(),
        }
        inputs = data.source.inputs.to_json()
        description = {"spec": asdict(data.spec), "features": data.feature_names, "inputs": inputs}
        (directory / DESCRIPTION).write_text(json.dumps(description, indent=2), encoding="utf-8")
    save_file(tensors, directory / WEIGHTS)


def load(directory: Path, config: Mapping[str, Any]) -> SavedModel:
    """Read a model that `save` wrote; `config` is the resolved config group `model` of its run, and must be trusted.

    Raises StoreError for files that are damaged or do not match that config.
    """
    description = read_description(directory)
    raw = description["spec"]
    spec = DataSpec(**{**raw, "task": Task(raw["task"]), "classes": tuple(raw["classes"])})
    tensors = _tensors(directory, spec)
    make = build({**config, "_partial_": True})
    module = uncompiled(make(spec=spec, optimizer=torch.optim.SGD))
    if not isinstance(module, SupervisedModule):
        raise ConfigError(
            f"model._target_: {config.get('_target_')} is no SupervisedModule, which this run's model was"
        )
    try:
        names = {f"module.{plain_name(name)}": name for name in module.state_dict()}
        module.load_state_dict(
            {
                names.get(name, name.removeprefix("module.")): t
                for name, t in tensors.items()
                if name.startswith("module.")
            }
        )
    except RuntimeError as error:
        raise damaged(WEIGHTS, f"its tensors are not those of this model: {in_one_line(error)}") from error
    return SavedModel(
        module=module.eval(),
        scaler=Scaler(shift=tensors["scaler.shift"], scale=tensors["scaler.scale"]),
        inputs=Inputs.of_json(description.get("inputs"), description["features"]),
    )


def _tensors(directory: Path, spec: DataSpec) -> dict[str, Tensor]:
    """Read the weights and the scaler's two vectors. Raises StoreError for damaged files."""
    try:
        tensors = load_file(directory / WEIGHTS)
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(WEIGHTS, in_one_line(error)) from error
    for name in ("scaler.shift", "scaler.scale"):
        if name not in tensors or tensors[name].shape != (spec.in_features,):
            raise damaged(WEIGHTS, f"no {name} of {spec.in_features} values")
    return tensors


def load_recorded(directory: Path, trust: Trust) -> SavedModel:
    """Read a model from a folder that also contains its run's config.yaml; build only what is shipped or trusted.

    Raises ConfigError for other targets, StoreError for damaged files.
    """
    try:
        recorded = yaml.safe_load((directory / CONFIG).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise damaged(CONFIG, in_one_line(error)) from error
    if not isinstance(recorded, dict):
        raise damaged(CONFIG, "it holds no keys")
    config = trust.resolve(recorded, "model")  # environment variables of other groups may be unset
    trust.check(config, "model")
    check_targets({"model": config})
    return load(directory, config)
