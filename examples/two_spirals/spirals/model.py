"""A small network with shortcuts around its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


class Residual(pl.LightningModule):
    """`blocks` hidden layers of `width` units, each added to what it was given.

    `optimizer` makes an optimizer of parameters: what the config group `optimizer` describes.
    """

    def __init__(
        self, *, optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer], width: int = 32, blocks: int = 2
    ) -> None:
        super().__init__()
        self.make_optimizer = optimizer
        self.first = nn.Linear(2, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).tanh()
        for block in self.blocks:
            x = x + block(x).tanh()
        return self.last(x).squeeze(-1)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return self.measure(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self.measure(batch, "val")

    def measure(self, batch: tuple[Tensor, Tensor], part: str) -> Tensor:
        x, y = batch
        logits = self(x)
        loss = binary_cross_entropy_with_logits(logits, y)
        accuracy = ((logits > 0) == y.bool()).float().mean()
        self.log_dict({f"{part}/loss": loss, f"{part}/acc": accuracy}, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.parameters())
