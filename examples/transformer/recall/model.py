"""A small transformer, with a learning rate that warms up step by step and then falls."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

Batch = tuple[Tensor, Tensor]


class Transformer(pl.LightningModule):
    """Classifies sequences of symbols by their first place, after `layers` layers of attention to all places.

    The learning rate rises to `lr` over the share `warm_up` of all steps, and falls to zero over the rest.
    """

    def __init__(
        self, *, symbols: int, length: int, width: int = 32, heads: int = 4, layers: int = 1, dropout: float = 0.0,
        lr: float = 0.003, warm_up: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.save_hyperparameters()
        self.symbols = nn.Embedding(symbols, width)
        self.places = nn.Parameter(0.1 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))

    def forward(self, sequences: Tensor) -> Tensor:
        encoded = self.encoder(self.symbols(sequences) + self.places)
        return self.head(encoded[:, 0]).squeeze(-1)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        return self.measure(batch, "train")

    def validation_step(self, batch: Batch, _: int) -> None:
        self.measure(batch, "val")

    def measure(self, batch: Batch, part: str) -> Tensor:
        sequences, answers = batch
        logits = self(sequences)
        loss = binary_cross_entropy_with_logits(logits, answers)
        accuracy = ((logits > 0) == answers.bool()).float().mean()
        self.log_dict({f"{part}/loss": loss, f"{part}/acc": accuracy}, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = AdamW(self.parameters(), lr=self.hparams.lr)
        steps = self.trainer.estimated_stepping_batches
        scheduler = OneCycleLR(optimizer, self.hparams.lr, total_steps=steps, pct_start=self.hparams.warm_up)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
