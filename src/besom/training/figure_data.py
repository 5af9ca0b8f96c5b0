"""The data of a run's figures besides its weights: small JSON files, so that drawing needs no torch.

confusion.json      for classifiers: counts on the validation part, rows are the true classes
mistakes.json       for classifiers of pictures: the mistakes on the validation part with the highest probability
weights.json        for linear models of pictures: the weights of each output, pixel by pixel
predictions.json    for a regression: true and predicted values on the validation part, at most 2000 of them
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from besom.data import InMemoryDataModule, Source, Task
from besom.models.module import SupervisedModule
from besom.models.network import MLP
from besom.models.scoring import probabilities

CONFUSION, MISTAKES, WEIGHTS, PREDICTIONS = "confusion.json", "mistakes.json", "weights.json", "predictions.json"

_SHOWN_MISTAKES = 25
_SHOWN_PAIRS = 2000


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """A model's predictions for rows that it was not trained on: probabilities [n, classes] or values [n], on the CPU.

    `targets` [n] are the true values, and `rows` [n] (int64) the positions in the source.
    """

    values: Tensor
    targets: Tensor
    rows: Tensor

    @classmethod
    def of(
        cls, module: pl.LightningModule, data: pl.LightningDataModule, config: Mapping[str, Any]
    ) -> Predictions | None:
        """Predict the validation part.

        Returns None where there is none, where the model or the data are not Besom's, or where no figure of the config
        needs it.
        """
        if not (isinstance(module, SupervisedModule) and isinstance(data, InMemoryDataModule) and data.sizes["val"]):
            return None
        if config.get("figures") == "none" or (data.spec.task is Task.REGRESSION and not _wants_everything(config)):
            return None
        loader = data.val_dataloader()
        assert not isinstance(loader, list)
        outputs, targets = module.outputs(loader)
        values = probabilities(data.spec.task, outputs.cpu().double())  # in float32, too many round to 1
        if data.spec.task is Task.BINARY:
            values = torch.stack([1 - values, values], dim=1)
        return cls(values=values, targets=targets.cpu(), rows=data.val_rows)

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions | None:
        """Return the predictions of several models for disjoint rows; None for an empty sequence."""
        if not parts:
            return None
        values, targets, rows = zip(*((part.values, part.targets, part.rows) for part in parts), strict=True)
        return cls(values=torch.cat(values), targets=torch.cat(targets), rows=torch.cat(rows))


def _wants_everything(config: Mapping[str, Any]) -> bool:
    """Return whether a resolved config asks for all figures; with `auto`, a model that is tested gets all."""
    figures = config.get("figures", "auto")  # older recorded configs lack this key
    return bool(figures == "all" or (figures == "auto" and config["test"]))


def write_figure_data(
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    predictions: Predictions | None,
    config: Mapping[str, Any],
    directory: Path,
) -> None:
    """Write a classifier's confusion matrix and, if the config asks for all figures, the data of the others."""
    if not (isinstance(module, SupervisedModule) and isinstance(data, InMemoryDataModule)):
        return
    source, everything = data.source, _wants_everything(config)
    tables: dict[str, Any] = {}
    if predictions is not None and source.task is Task.REGRESSION:
        tables[PREDICTIONS] = pairs(predictions)
    elif predictions is not None:
        tables[CONFUSION] = confusion(source, predictions)
        if everything and source.picture is not None:
            tables[MISTAKES] = mistakes(source, predictions)
    network = module.network
    if everything and source.picture is not None and isinstance(network, MLP) and not network.hidden_sizes:
        tables[WEIGHTS] = weights(source, network)
    for name, table in tables.items():
        (directory / name).write_text(json.dumps(table), encoding="utf-8")


def confusion(source: Source, predictions: Predictions) -> dict[str, Any]:
    """Count the rows of each true class by predicted class."""
    size = len(source.class_names)
    counts = torch.bincount(predictions.targets.long() * size + predictions.values.argmax(dim=1), minlength=size * size)
    return {"classes": source.class_names, "counts": counts.reshape(size, size).tolist()}


def mistakes(source: Source, predictions: Predictions) -> dict[str, Any]:
    """Return the mistakes with the highest probability, in that order, with their pixels as 8-bit grey in base64."""
    probability, classes = predictions.values.max(dim=1)
    wrong = (classes != predictions.targets).nonzero().flatten()
    worst = wrong[probability[wrong].argsort(descending=True, stable=True)][:_SHOWN_MISTAKES]
    pixels = source.x[predictions.rows[worst]].float() * (255 / (source.max_value or 255))
    names = source.class_names
    shown = [
        {
            "row": int(predictions.rows[index]),
            "true": names[int(predictions.targets[index])],
            "predicted": names[int(classes[index])],
            "probability": float(probability[index]),
            "pixels": b64encode(bytes(picture.round().clamp(0, 255).to(torch.uint8).tolist())).decode(),
        }
        for index, picture in zip(worst.tolist(), pixels, strict=True)
    ]
    return {"size": source.picture, "rows": len(predictions.targets), "total": len(wrong), "mistakes": shown}


def weights(source: Source, network: MLP) -> dict[str, Any]:
    """Return the weights [outputs, pixels] of a single-layer network, and the class or target of each output."""
    (layer,) = network.linears
    names = {Task.MULTICLASS: source.class_names, Task.BINARY: source.class_names[1:], Task.REGRESSION: (source.name,)}
    rows = [[float(f"{value:.4g}") for value in row] for row in layer.weight.detach().cpu().tolist()]
    return {"size": source.picture, "outputs": names[source.task], "weights": rows}


def pairs(predictions: Predictions) -> dict[str, Any]:
    """Return true and predicted values, of evenly spaced rows where there are many."""
    count = len(predictions.targets)
    positions = torch.linspace(0, count - 1, min(count, _SHOWN_PAIRS)).round().long()
    return {
        "true": predictions.targets[positions].tolist(),
        "predicted": predictions.values[positions].tolist(),
        "rows": count,
    }
