"""A module's weights: their names whether or not torch.compile wraps it, copies of them, and how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_COMPILED = "_orig_mod"
"""The attribute in which torch.compile keeps the module that it wraps."""


def uncompiled(module: Any) -> Any:
    """Return the module that torch.compile has wrapped, or the object itself."""
    return getattr(module, _COMPILED, module)


def plain_name(name: str) -> str:
    """Return the name that a weight has in a module that is not compiled: `net.0.bias` for `net._orig_mod.0.bias`."""
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def state_of(module: pl.LightningModule) -> dict[str, Any]:
    """Return a copy of a module's current state: its weights, and what `get_extra_state` adds.

    A lazy parameter that no batch has reached has no values yet, and is left out.
    """
    state = {name: value for name, value in module.state_dict().items() if not is_lazy(value)}
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else deepcopy(value) for name, value in state.items()
    }


def load_state(module: pl.LightningModule, state: Mapping[str, Any]) -> None:
    """Load a state of the same module, which may leave out weights if its `strict_loading` is false."""
    module.load_state_dict(state, strict=module.strict_loading and not any(map(is_lazy, module.parameters())))


def parameter_count(module: nn.Module, *, trainable: bool = False) -> int:
    """Return the number of a module's parameters, or of the trainable ones; those of lazy layers are not known yet."""
    parameters = (each for each in module.parameters() if each.requires_grad or not trainable)
    return sum(each.numel() for each in parameters if not is_lazy(each))
