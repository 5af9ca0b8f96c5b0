"""Evaluation: the items that a loader may yield, and a module's evaluation mode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

Pair: TypeAlias = tuple[Tensor, Tensor]
"""A batch (x [b, ...], y [b]), or a network's outputs for it (outputs [b, out], y [b])."""

Chunk: TypeAlias = Pair | list[Tensor] | Iterable[Pair]
"""A batch, also as the list that torch's DataLoader makes of it, or several: `besom.data.Batches`."""


def batches(chunk: Chunk) -> Iterator[Pair]:
    """Yield the batches of a chunk, or the one batch that it is."""
    if isinstance(chunk, tuple | list) and isinstance(chunk[0], Tensor):
        yield chunk[0], cast(Tensor, chunk[1])
    else:
        yield from cast(Iterable[Pair], chunk)


def concatenate(pairs: Sequence[Pair]) -> Pair:
    """Return pairs (outputs [b, out], y [b]) joined to (outputs [n, out] float32, y [n]).

    Raises ValueError if there are none.
    """
    if not pairs:
        raise ValueError("no batches to join; the loader is empty")
    outputs, targets = zip(*pairs, strict=True)
    return torch.cat(outputs).float(), torch.cat(targets)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, without gradients, and restore its mode afterwards."""
    training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        module.train(training)
