"""A small residual network, with an optimizer and a scheduler from the config and metrics of torchmetrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Accuracy

Batch = tuple[Tensor, Tensor]
PARTS = ("train", "val", "test")


class Block(nn.Module):
    """Two convolutions, added to what they were given; `stride` 2 halves height and width."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(2))
        fits = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if fits else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = relu(self.norms[0](self.first(x)))
        return relu(self.norms[1](self.second(inner)) + self.shortcut(x))


class ResNet(pl.LightningModule):
    """Three stages of `blocks` blocks each, with `width`, twice and four times as many channels.

    With `compile`, torch.compile compiles the network.
    """

    def __init__(
        self,
        *,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        classes: int = 10,
        width: int = 16,
        blocks: int = 2,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
        for stage in range(3):
            for block in range(blocks):
                layers.append(Block(channels, width << stage, stride=2 if stage and not block else 1))
                channels = width << stage
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
        network = nn.Sequential(*layers)
        self.network = torch.compile(network) if compile else network
        self.accuracy = nn.ModuleDict({f"{part}_acc": Accuracy("multiclass", num_classes=classes) for part in PARTS})

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.measure(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.measure(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.measure(batch, "test")

    def measure(self, batch: Batch, part: str) -> Tensor:
        x, y = batch
        outputs = self(x)
        loss = cross_entropy(outputs, y)
        accuracy = self.accuracy[f"{part}_acc"]
        accuracy(outputs, y)
        self.log_dict({f"{part}/loss": loss, f"{part}/acc": accuracy}, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Optimizer | tuple[list[Optimizer], list[LRScheduler]]:
        optimizer = self.make_optimizer(self.parameters())
        return optimizer if self.make_scheduler is None else ([optimizer], [self.make_scheduler(optimizer)])
