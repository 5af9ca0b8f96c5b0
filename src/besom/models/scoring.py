"""The loss and the metrics of each task, from a network's outputs [n, out] and the targets [n].

They are independent of the scale of the outputs; where torchmetrics' own version is not, a comment says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_auroc, multiclass_f1_score

from besom.data.dataset import Task
from besom.errors import TrialFailed

Loss = Callable[[Tensor, Tensor], Tensor]


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error, a scalar, of values [n, 1] against targets [n] or [n, 1]."""
    return F.mse_loss(outputs, targets.to(outputs.dtype).reshape(outputs.shape))


def _binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats, a scalar, of logits [n, 1] against targets 0 or 1 [n]."""
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype).reshape(logits.shape))


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean softmax cross-entropy in nats, a scalar, of logits [n, classes] against classes [n]."""
    return F.cross_entropy(logits, targets.long().reshape(-1))


LOSSES: Mapping[Task, Loss] = {
    Task.REGRESSION: _squared_error,
    Task.BINARY: _binary_cross_entropy,
    Task.MULTICLASS: cross_entropy,
}


def finite(loss: Tensor, what: str) -> float:
    """Return a scalar loss as a number, which waits for the device.

    Raises TrialFailed if the loss is inf or nan: `what`, with its `{}` filled with the loss, and the remedy.
    """
    value = loss.item()
    check_finite(value, what)
    return value


def check_finite(value: float, what: str) -> None:
    """Raise TrialFailed, as `finite` does, if a loss is inf or nan."""
    if math.isfinite(value):
        return
    remedy = "lower optimizer.lr, set model.gradient_clip_norm, or look for nan in the data"
    raise TrialFailed(f"{what.format(value)}; {remedy}")


def scores(task: Task, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return the metrics of `metric_names(task)` except the loss, each a scalar, for n >= 1 samples.

    `outputs` are values [n, 1] or logits [n, out]. Undefined metrics are omitted: r2 when there are fewer than two
    different targets, auroc when there is only one class. f1 is the macro average over the classes that occur among the
    targets or the predictions.
    """
    outputs, targets = outputs.float(), targets.reshape(-1)
    if task is Task.MULTICLASS:
        predicted = outputs.argmax(dim=1)
        return {
            "acc": (predicted == targets).float().mean(),
            "f1": multiclass_f1_score(
                predicted, targets.long(), num_classes=outputs.shape[1], average="macro", validate_args=False
            ),
        }
    outputs = outputs.reshape(-1)
    defined = _binary_scores(outputs, targets) if task is Task.BINARY else _value_scores(outputs, targets.float())
    return {name: value for name, value in defined.items() if value is not None}


def probabilities(task: Task, outputs: Tensor) -> Tensor:
    """Return the predictions for outputs [n, out].

    Regression: values [n]. Binary: the probability of the second class [n]. Multiclass: the probability of each class
    [n, classes].
    """
    if task is Task.MULTICLASS:
        return outputs.softmax(dim=1)
    return outputs.squeeze(1).sigmoid() if task is Task.BINARY else outputs.squeeze(1)


def _binary_scores(logits: Tensor, targets: Tensor) -> dict[str, Tensor | None]:
    truth = targets > 0
    # torchmetrics treats logits that are all in 0..1 as probabilities, and applies a float32 sigmoid to others, which
    # makes all logits above 17 equal. So threshold the logits here, and pass their ranks, scaled to 0..1, which have
    # the same curve.
    ranks = torch.unique(logits, return_inverse=True)[1]
    both = bool(truth.any()) and not bool(truth.all())
    return {
        "acc": ((logits > 0) == truth).float().mean(),
        "auroc": binary_auroc(ranks / ranks.max().clamp(min=1), truth.long(), validate_args=False) if both else None,
    }


def _value_scores(values: Tensor, targets: Tensor) -> dict[str, Tensor | None]:
    # torchmetrics' r2_score treats any spread below 1e-4 as none, and loses the digits of targets that are large
    # compared to their spread; summing squares about the mean does neither.
    spread = (targets - targets.mean()).square().sum()
    varied = bool(targets.min() < targets.max())
    return {
        "mae": (values - targets).abs().mean(),
        "r2": 1 - (values - targets).square().sum() / spread if varied else None,
    }
