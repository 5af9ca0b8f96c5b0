"""A module's weights: their names whether or not torch.compile wraps it, copies of them, and how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytorch_lightning as pl
import torch
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


@dataclass(frozen=True)
class StateFile:
    """A module's state: its weights in a file, and what else it has in memory."""

    path: Path
    others: Mapping[str, Any]


State: TypeAlias = Mapping[str, Any] | StateFile
"""A copy of a module's state, with which `load_state` puts it back."""


def state_of(module: pl.LightningModule) -> dict[str, Any]:
    """Return a copy of a module's current state: its weights, and what `get_extra_state` adds."""
    return _copied(_current(module))


def keep_state(module: pl.LightningModule, file: Path, *, limit_mb: float) -> State:
    """Return a copy of a module's current state: in memory or, if it has more than `limit_mb`, in `file`.

    Of several ranks, each has its own file, since only parameters are equal on all. Raises OSError if it cannot be
    written; a file of before is whole then.
    """
    state = _current(module)
    weights = {name: value for name, value in state.items() if type(value) in (Tensor, nn.Parameter)}
    if sum(weight.nbytes for weight in weights.values()) <= limit_mb * 1e6:
        return _copied(state)
    _write(weights, file)
    return StateFile(file, _copied({name: value for name, value in state.items() if name not in weights}))


def load_state(module: pl.LightningModule, state: State) -> None:
    """Load a state of the same module, which may lack weights if its `strict_loading` is false; remove its file."""
    strict = module.strict_loading and not any(map(is_lazy, module.parameters()))
    if not isinstance(state, StateFile):
        module.load_state_dict(state, strict=strict)
        return
    weights = torch.load(state.path, map_location="cpu", weights_only=True, mmap=True)
    module.load_state_dict({**weights, **state.others}, strict=strict)
    state.path.unlink()


def _write(weights: Mapping[str, Tensor], file: Path) -> None:
    beside = file.with_name(f"{file.name}.part")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with beside.open("wb") as opened:
            torch.save(weights, opened)
    except RuntimeError as error:
        # After an error of the disk, torch's writer raises one of its own about the length of the file.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    beside.replace(file)


def _current(module: pl.LightningModule) -> dict[str, Any]:
    """Return a module's state, without the lazy parameters that no batch has reached: they have no values yet."""
    return {name: value for name, value in module.state_dict().items() if not is_lazy(value)}


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else deepcopy(value) for name, value in state.items()
    }


def parameter_count(module: nn.Module, *, trainable: bool = False) -> int:
    """Return the number of a module's parameters, or of the trainable ones; those of lazy layers are not known yet."""
    parameters = (each for each in module.parameters() if each.requires_grad or not trainable)
    return sum(each.numel() for each in parameters if not is_lazy(each))
