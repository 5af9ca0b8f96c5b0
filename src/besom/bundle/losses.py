"""The losses of all members at once, with their gradients, and the metrics of an epoch.

Outputs are [members, out, b] throughout, targets [b]. The values are those of `besom.models.scoring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from besom.data.dataset import Task
from besom.models.scoring import LOSSES, scores

_aten = torch.ops.aten


class Loss(Protocol):
    """A task's loss, the mean over a batch, for each member."""

    def targets(self, y: Tensor) -> Tensor:
        """Return the targets in the type that the loss needs."""

    def __call__(self, outputs: Tensor, targets: Tensor, grads: Tensor) -> Tensor:
        """Write the gradient with respect to the outputs; return the sum of the losses over the batch, [members]."""

    def kept(self, outputs: Tensor) -> Tensor:
        """Return a copy of the part of the outputs that the metrics need, [members, kept, b]."""


class _CrossEntropy:
    def targets(self, y: Tensor) -> Tensor:
        return y.long()

    def __call__(self, outputs: Tensor, targets: Tensor, grads: Tensor) -> Tensor:
        index = targets.view(1, 1, -1).expand(len(outputs), 1, -1)
        _aten._log_softmax.out(outputs, 1, False, out=grads)
        losses = grads.gather(1, index).sum(dim=(1, 2)).neg_()
        grads.exp_()
        grads.scatter_add_(1, index, grads.new_full((1, 1, 1), -1.0).expand(len(outputs), 1, index.shape[2]))
        grads.div_(outputs.shape[2])
        return losses

    def kept(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(dim=1, keepdim=True)


class _BinaryCrossEntropy:
    def targets(self, y: Tensor) -> Tensor:
        return y

    def __call__(self, outputs: Tensor, targets: Tensor, grads: Tensor) -> Tensor:
        wanted = targets.to(outputs.dtype).expand_as(outputs)
        losses = F.binary_cross_entropy_with_logits(outputs, wanted, reduction="none")
        torch.sub(outputs.sigmoid(), wanted, out=grads).div_(outputs.shape[2])
        return losses.sum(dim=(1, 2))

    def kept(self, outputs: Tensor) -> Tensor:
        return outputs.clone()


class _SquaredError:
    def targets(self, y: Tensor) -> Tensor:
        return y

    def __call__(self, outputs: Tensor, targets: Tensor, grads: Tensor) -> Tensor:
        torch.sub(outputs, targets.to(outputs.dtype), out=grads)
        losses = grads.square().sum(dim=(1, 2))
        grads.mul_(2 / outputs.shape[2])
        return losses

    def kept(self, outputs: Tensor) -> Tensor:
        return outputs.clone()


STACKED_LOSSES: dict[Task, Loss] = {
    Task.REGRESSION: _SquaredError(),
    Task.BINARY: _BinaryCrossEntropy(),
    Task.MULTICLASS: _CrossEntropy(),
}


def stacked_scores(task: Task, kept: Tensor, targets: Tensor, *, classes: int) -> list[dict[str, float]]:
    """Return for each member the metrics of `scores`, from what `Loss.kept` returned, [members, kept, n]."""
    if task is not Task.MULTICLASS:
        per_member = [scores(task, member.t(), targets) for member in kept]
        return [{name: float(value) for name, value in member_scores.items()} for member_scores in per_member]
    return _class_scores(kept[:, 0], targets.long(), classes)


def _class_scores(predicted: Tensor, targets: Tensor, classes: int) -> list[dict[str, float]]:
    # A member's metrics all follow from its confusion matrix, and one bincount makes those of all members.
    members = len(predicted)
    offsets = torch.arange(members, device=predicted.device)[:, None] * classes * classes
    cells = torch.bincount((offsets + targets * classes + predicted).view(-1), minlength=members * classes * classes)
    confusion = cells.view(members, classes, classes)
    hits = confusion.diagonal(dim1=1, dim2=2)
    seen = confusion.sum(2) + confusion.sum(1)  # twice the hits, plus false positives and negatives
    f1 = torch.where(seen > 0, 2 * hits / seen.clamp(min=1), 0.0)
    macro = f1.sum(1) / (seen > 0).sum(1)
    acc = hits.sum(1) / len(targets)
    pairs: Sequence[list[float]] = torch.stack([acc, macro], dim=1).tolist()
    return [{"acc": accuracy, "f1": f1_score} for accuracy, f1_score in pairs]


def mean_losses(task: Task, outputs: Tensor, targets: Tensor) -> list[float]:
    """Return the mean loss of each member, for outputs [members, out, n]."""
    if task is Task.MULTICLASS:
        return F.cross_entropy(outputs, targets.long().expand(len(outputs), -1), reduction="none").mean(1).tolist()
    return torch.stack([LOSSES[task](member.t(), targets) for member in outputs]).tolist()
