"""Networks of one architecture as one, whatever it is: forward by `vmap` over their parameters, back by autograd.

The way of `besom.bundle.mlp_stack` for networks that nobody wrote out a pass for. There is more between two operations
than there, so fewer networks gain from it: `besom.bundle.user_models` finds out which.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from besom.bundle.mlp_stack import move


class FunctionalStack:
    """Takes over the parameters of networks that have the same of them, from [b, features] to [b, outputs].

    Each network keeps working by itself: its parameters are views of the stack's memory, and their `grad` too. Buffers
    are copied, since no pass changes them. Raises what vmap raises for networks that differ.
    """

    def __init__(self, networks: Sequence[nn.Module], *, features: int, outputs: int) -> None:
        self.members, self.features, self.outputs = len(networks), features, outputs
        # Without memory: what a lane does not bring along is missed at once.
        self.skeletons = {True: copy.deepcopy(networks[0]).to("meta"), False: copy.deepcopy(networks[0]).to("meta")}
        self.skeletons[False].eval()
        self.parameters, self.buffers = stack_module_state(list(networks))
        self.grads = {name: torch.zeros_like(stacked) for name, stacked in self.parameters.items()}
        for member, network in enumerate(networks):
            for name, parameter in network.named_parameters():
                move(parameter, self.parameters[name].data[member], self.grads[name][member])

    def through(self, rows: int, *, training: bool) -> FunctionalPass:
        """Return a way through for batches of so many rows."""
        return FunctionalPass(self, rows, training=training)

    def count_batches(self, batches: int) -> None:
        """Do nothing: networks that count batches train alone."""


class FunctionalPass:
    """A way through a stack for batches of so many rows; to be used as `besom.bundle.mlp_stack.Pass` is."""

    def __init__(self, stack: FunctionalStack, rows: int, *, training: bool) -> None:
        self._stack = stack
        self._training = training
        self._skeleton = stack.skeletons[training]
        self._made: Tensor | None = None  # the outputs as autograd knows them, [lanes, b, out]
        some = next(iter(stack.grads.values()))
        self.x = some.new_empty(rows, stack.features)
        self.outputs = some.new_empty(stack.members, stack.outputs, rows)
        self.output_grads = torch.empty_like(self.outputs)

    def forward(self) -> None:
        """Go from `x` to `outputs`."""
        with torch.set_grad_enabled(self._training):
            made = vmap(self._call, in_dims=(0, 0, None))(self._stack.parameters, self._stack.buffers, self.x)
        self.outputs.copy_(made.detach().mT)
        self._made = made if self._training else None

    def backward(self) -> None:
        """Go from `output_grads` to the gradients of all parameters."""
        assert self._made is not None, "no forward in training before"
        found = torch.autograd.grad(self._made, list(self._stack.parameters.values()), self.output_grads.mT)
        torch._foreach_copy_(list(self._stack.grads.values()), list(found))
        self._made = None

    def _call(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self._skeleton, (parameters, buffers), (x,))
        return outputs
