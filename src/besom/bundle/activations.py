"""The activations of `besom.models.network` without autograd: each as a forward and a backward function.

`forward(z, a)` writes the activation of z to a; a is z itself where backward needs only the result. `backward(d, of)`
turns the gradient with respect to the activation into that with respect to z, in place; `of` is the result, or z where
that is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """An activation's forward and backward functions."""

    forward: Callable[[Tensor, Tensor], object]
    """(z, a): write the activation of z to a; a is z itself unless `keeps_input`."""

    backward: Callable[[Tensor, Tensor], object]
    """(d, of): turn the gradient of a into that of z, in place; `of` is a, or z with `keeps_input`."""

    keeps_input: bool = False


ACTIVATIONS: Mapping[str, Activation] = {
    "relu": Activation(
        lambda z, a: torch.relu_(z),
        lambda d, a: _aten.threshold_backward.grad_input(d, a, 0, grad_input=d),
    ),
    "leaky_relu": Activation(
        lambda z, a: F.leaky_relu_(z, 0.01),
        lambda d, a: _aten.leaky_relu_backward.grad_input(d, a, 0.01, True, grad_input=d),
    ),
    "elu": Activation(
        lambda z, a: F.elu_(z),
        lambda d, a: _aten.elu_backward.grad_input(d, 1.0, 1, 1, True, a, grad_input=d),
    ),
    "tanh": Activation(
        lambda z, a: torch.tanh_(z),
        lambda d, a: _aten.tanh_backward.grad_input(d, a, grad_input=d),
    ),
    "sigmoid": Activation(
        lambda z, a: torch.sigmoid_(z),
        lambda d, a: _aten.sigmoid_backward.grad_input(d, a, grad_input=d),
    ),
    "gelu": Activation(
        lambda z, a: _aten.gelu.out(z, out=a),
        lambda d, z: _aten.gelu_backward.grad_input(d, z, grad_input=d),
        keeps_input=True,
    ),
    "silu": Activation(
        lambda z, a: _aten.silu.out(z, out=a),
        lambda d, z: _aten.silu_backward.grad_input(d, z, grad_input=d),
        keeps_input=True,
    ),
    "softplus": Activation(
        lambda z, a: _aten.softplus.out(z, out=a),
        lambda d, z: _aten.softplus_backward.grad_input(d, z, 1, 20, grad_input=d),
        keeps_input=True,
    ),
}
"""The activations by their names in `besom.models.network`; `linear` is a no-op."""
