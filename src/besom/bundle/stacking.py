"""The ways to stack networks: Besom's MLPs by `besom.bundle.mlp_stack`, a user's networks by `vmap`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from torch import Tensor, nn

from besom.bundle.mlp_stack import Stack, stacking_key
from besom.bundle.vmap_stack import FunctionalStack
from besom.data import DataSpec
from besom.models.network import MLP


class StackPass(Protocol):
    """A forward and backward pass for batches of a fixed number of rows: see `besom.bundle.mlp_stack.Pass`."""

    x: Tensor
    outputs: Tensor
    output_grads: Tensor

    def forward(self) -> None:
        """Compute `outputs` from `x`."""

    def backward(self) -> None:
        """Compute the gradients of all parameters from `output_grads`."""


class Stacked(Protocol):
    """Several networks as one stack."""

    outputs: int

    def new_pass(self, rows: int, *, training: bool) -> StackPass:
        """Return a pass for batches of this number of rows."""

    def count_batches(self, batches: int) -> None:
        """Add `batches` to the networks' own counters."""


@dataclass(frozen=True)
class Stacking:
    """A way to stack networks: `make` takes them sorted by `key`."""

    make: Callable[[Sequence[nn.Module]], Stacked]
    key: Callable[[nn.Module], Any]


MLP_STACKING = Stacking(
    make=lambda networks: Stack(cast(Sequence[MLP], networks)), key=lambda network: stacking_key(cast(MLP, network))
)
"""Stacks MLPs of any shapes."""


def by_vmap(spec: DataSpec) -> Stacking:
    """Return a way to stack networks of one architecture, whatever it is, for data of this shape."""
    return Stacking(
        make=lambda networks: FunctionalStack(networks, features=spec.in_features, outputs=spec.out_features),
        key=lambda network: 0,  # in any order
    )
