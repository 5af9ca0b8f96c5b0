"""A trained model on disk: weights as safetensors, everything else as JSON. Loading unpickles nothing.

model.safetensors   the best weights, and the scaler's two vectors
model.json          the data's spec and feature names, and what the model reads (besom.inputs)
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
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor

from besom.config import resolved
from besom.data import DataSpec, InMemoryDataModule, Task
from besom.data.scaling import Scaler
from besom.inputs import CONFIG, DESCRIPTION, WEIGHTS, Inputs
from besom.models import SupervisedModule


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """A model that was trained, with the preprocessing that it was trained behind."""

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
        """Return probabilities [n, classes] (binary: [n]) or values [n] for raw inputs [n, features]."""
        return self.module.predict(self.scaler.apply(x))


def save(module: pl.LightningModule, data: pl.LightningDataModule, directory: Path) -> None:
    """Write the model into `directory`.

    Of a module or data module that is not Besom's, only the weights are written: it cannot be rebuilt from here.
    """
    tensors = {
        f"module.{name}": tensor.cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
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
    """Read a model that `save` wrote; `config` is the resolved config group `model` of its run."""
    description = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
    raw = description["spec"]
    spec = DataSpec(**{**raw, "task": Task(raw["task"]), "classes": tuple(raw["classes"])})
    tensors = load_file(directory / WEIGHTS)
    build = instantiate({**config, "_partial_": True}, _convert_="all")
    module = build(spec=spec, optimizer=torch.optim.SGD)
    module.load_state_dict(
        {name.removeprefix("module."): t for name, t in tensors.items() if name.startswith("module.")}
    )
    return SavedModel(
        module=module.eval(),
        scaler=Scaler(shift=tensors["scaler.shift"], scale=tensors["scaler.scale"]),
        inputs=Inputs.of_json(description.get("inputs"), description["features"]),
    )


def load_recorded(directory: Path) -> SavedModel:
    """Read a model from a folder that holds its run's config.yaml as well."""
    config = OmegaConf.create(yaml.safe_load((directory / CONFIG).read_text(encoding="utf-8")))
    return load(directory, resolved(config.model))  # what other groups take from the environment need not be there
