"""Networks of one arbitrary architecture as one stack: forward by `vmap` over their parameters, backward by autograd.

The counterpart of `besom.bundle.mlp_stack` for networks without a written-out pass. It has more overhead between two
operations, so fewer networks gain from it: `besom.bundle.user_models` measures which.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from besom.bundle.mlp_stack import move


class FunctionalStack:
    """A stack of networks with equal parameter shapes, from [b, features] to [b, outputs]; takes over their parameters.

    Each network stays usable: its parameters and their `grad` are views of the stack's memory. Buffers are copied,
    since no pass changes them. Raises what vmap raises for networks that differ.
    """

    def __init__(self, networks: Sequence[nn.Module], *, features: int, outputs: int) -> None:
        self.members, self.features, self.outputs = len(networks), features, outputs
        # On the meta device: a tensor that a member does not provide raises an error at once.
        self.skeletons = {True: copy.deepcopy(networks[0]).to("meta"), False: copy.deepcopy(networks[0]).to("meta")}
        self.skeletons[False].eval()
        self.parameters, self.buffers = stack_module_state(list(networks))
        self.grads = {name: torch.zeros_like(stacked) for name, stacked in self.parameters.items()}
        for member, network in enumerate(networks):
            for name, parameter in network.named_parameters():
                move(parameter, self.parameters[name].data[member], self.grads[name][member])

    def new_pass(self, rows: int, *, training: bool) -> FunctionalPass:
        """Return a pass for batches of this number of rows."""
        return FunctionalPass(self, rows, training=training)

    def count_batches(self, batches: int) -> None:
        """No-op: networks that count batches train unbundled."""


class FunctionalPass:
    """A pass for batches of a fixed number of rows; used like `besom.bundle.mlp_stack.Pass`."""

    def __init__(self, stack: FunctionalStack, rows: int, *, training: bool) -> None:
        self._stack = stack
        self._training = training
        self._skeleton = stack.skeletons[training]
        self._attached: Tensor | None = None  # the outputs in autograd's graph, [members, b, out]
        like = next(iter(stack.grads.values()))
        self.x = like.new_empty(rows, stack.features)
        self.outputs = like.new_empty(stack.members, stack.outputs, rows)
        self.output_grads = torch.empty_like(self.outputs)

    def forward(self) -> None:
        """Compute `outputs` from `x`."""
        with torch.set_grad_enabled(self._training):
            attached = vmap(self._call, in_dims=(0, 0, None))(self._stack.parameters, self._stack.buffers, self.x)
        self.outputs.copy_(attached.detach().mT)
        self._attached = attached if self._training else None

    def backward(self) -> None:
        """Compute the gradients of all parameters from `output_grads`."""
        assert self._attached is not None, "no forward in training before"
        grads = torch.autograd.grad(self._attached, list(self._stack.parameters.values()), self.output_grads.mT)
        torch._foreach_copy_(list(self._stack.grads.values()), list(grads))
        self._attached = None

    def _call(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self._skeleton, (parameters, buffers), (x,))
        return outputs
