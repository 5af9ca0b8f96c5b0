"""The ways of making several networks one: Besom's own by `besom.bundle.mlp_stack`, a user's by `vmap`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from torch import Tensor, nn

from besom.bundle.mlp_stack import Stack, likeness
from besom.bundle.vmap_stack import FunctionalStack
from besom.data import DataSpec
from besom.models.network import MLP


class Through(Protocol):
    """A way through a stack for batches of so many rows: see `besom.bundle.mlp_stack.Pass`."""

    x: Tensor
    outputs: Tensor
    output_grads: Tensor

    def forward(self) -> None:
        """Go from `x` to `outputs`."""

    def backward(self) -> None:
        """Go from `output_grads` to the gradients of all parameters."""


class Stacked(Protocol):
    """Several networks as one."""

    outputs: int

    def through(self, rows: int, *, training: bool) -> Through:
        """Return a way through for batches of so many rows."""

    def count_batches(self, batches: int) -> None:
        """Count batches where each network would have counted them."""


@dataclass(frozen=True)
class Stacking:
    """How networks become a stack: `make` takes them in the order of `key`."""

    make: Callable[[Sequence[nn.Module]], Stacked]
    key: Callable[[nn.Module], Any]


OURS = Stacking(
    make=lambda networks: Stack(cast(Sequence[MLP], networks)), key=lambda network: likeness(cast(MLP, network))
)
"""For MLPs of any shapes."""


def by_vmap(spec: DataSpec) -> Stacking:
    """For networks of one architecture, whatever it is, on data of this shape."""
    return Stacking(
        make=lambda networks: FunctionalStack(networks, features=spec.in_features, outputs=spec.out_features),
        key=lambda network: 0,  # in whatever order they come
    )
