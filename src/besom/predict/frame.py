"""Predictions as columns: the class and its probability, or the value; and their score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from besom.config.model_inputs import prediction_columns
from besom.data.dataset import DataSpec, Task


def of_each_class(spec: DataSpec, predicted: Tensor) -> Tensor:
    """Return the probability of each class [n, classes] that `SavedModel.predict` gives, also for two classes."""
    return torch.stack([1 - predicted, predicted], dim=1) if spec.task is Task.BINARY else predicted


def as_frame(spec: DataSpec, predicted: Tensor, *, probabilities: bool) -> pd.DataFrame:
    """Return a row per input, of the columns that `besom.config.model_inputs.prediction_columns` names.

    `prediction` is a float32, or the name of a class; probabilities are float32 in 0..1.
    """
    names = prediction_columns(spec.classes, probabilities=probabilities)
    if spec.task is Task.REGRESSION:
        return pd.DataFrame({names[0]: predicted.numpy()})
    each = of_each_class(spec, predicted)
    highest, chosen = each.max(dim=1)
    columns = [np.array(spec.classes, dtype=object)[chosen.numpy()], highest.numpy(), *each.numpy().T]
    return pd.DataFrame(dict(zip(names, columns[: len(names)], strict=True)))


@dataclass
class Score:
    """The score on rows whose target is known, accumulated batch by batch."""

    spec: DataSpec
    rows: int = 0
    total: float = 0.0
    unknown: int = 0
    complete: bool = True

    def add(self, predicted: Tensor, truth: Tensor | None) -> None:
        """Add rows: the result of `SavedModel.predict`, and the targets [n]; an unknown class is < 0."""
        if truth is None:
            self.complete = False
            return
        self.rows += len(truth)
        if self.spec.task is Task.REGRESSION:
            self.total += float((predicted.double() - truth.double()).square().sum())
        else:
            self.total += float((of_each_class(self.spec, predicted).argmax(dim=1) == truth).sum())
            self.unknown += int((truth < 0).sum())

    def describe(self, column: str) -> str:
        """Return the score against a target column as text: accuracy, or the mean squared error."""
        name = "mse" if self.spec.task is Task.REGRESSION else "accuracy"
        others = f", {self.unknown} of them of classes that it was not trained on" if self.unknown else ""
        return f"{name} {self.total / self.rows:.6g} against column '{column}' ({self.rows} rows{others})"
