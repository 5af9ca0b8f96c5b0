"""What a module does otherwise as one of several ranks: its dropout seed, and the weight of its gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor

from besom.data.loader import Batches
from besom.errors import ConfigError
from besom.models.evaluating import Chunk
from besom.models.network import SeededDropout, dropout_seed


def join_ranks(module: pl.LightningModule) -> None:
    """Give each rank its own dropout seed. Raises ConfigError for a strategy other than ddp."""
    if not isinstance(module.trainer.strategy, DDPStrategy):
        name = type(module.trainer.strategy).__name__
        raise ConfigError(f"trainer.strategy: {type(module).__name__} trains on several devices by ddp, not {name}")
    for layer in module.modules():
        if isinstance(layer, SeededDropout) and module.global_rank:
            layer.seed = dropout_seed(layer.seed, module.global_rank)


def backward_over_ranks(module: pl.LightningModule, chunk: Chunk) -> Callable[[Tensor, int], None]:
    """Return the backward function for this rank's piece of each batch, to the gradient of the whole batch's loss.

    The ranks' gradients are averaged, so each is weighted by its share of the rows.
    """
    ranks = module.trainer.world_size
    sizes = chunk.sizes() if isinstance(chunk, Batches) else None

    def backward(loss: Tensor, rows: int) -> None:
        share = ranks * rows / next(sizes) if sizes else 1.0
        module.manual_backward(loss * share)

    return backward
