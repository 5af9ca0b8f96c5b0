"""The check of which of a user's own modules may share a stack: by inspection, and by a trial run.

They must be trained by `SupervisedModule`'s own loop and differ only in the numbers in their parameters and buffers.
Then copies of them make a forward and backward pass, and the stack must give the same results, and faster.
"""

from __future__ import annotations

import copy
import random
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np
import torch
from hydra.utils import get_class
from torch import Tensor, nn

from besom.bundle.losses import STACKED_LOSSES, Loss
from besom.bundle.member import Member, device_of
from besom.bundle.optimizers import is_covered
from besom.bundle.size import Costs
from besom.bundle.stacking import Stacking, by_vmap
from besom.bundle.timing import Timing
from besom.data import InMemoryDataModule
from besom.models import SupervisedModule
from besom.models.scoring import LOSSES

Measure = Callable[[Sequence[Member], InMemoryDataModule], Costs]
"""Measures the costs of members of one architecture, unbundled and as a stack."""

_TOLERANCE = 1e-5
_ENOUGH = 0.8  # of the unbundled time: a smaller gain is lost in evaluation and measurement
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def keeps_training_loop(target: str) -> bool:
    """Return whether a `_target_` names a SupervisedModule that overrides only the constructor."""
    try:
        kind = get_class(target)
    except Exception:  # the unbundled training will raise it again
        return False
    return issubclass(kind, SupervisedModule) and not any(
        _overrides(base, name) for base in kind.__mro__ if base not in SupervisedModule.__mro__ for name in vars(base)
    )


def random_state() -> Hashable:
    """Return the state of the global random generators, as a comparable value."""
    numpy: Any = np.random.get_state()
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states += torch.cuda.get_rng_state_all()
    return random.getstate(), _frozen(numpy), *map(_bytes, states)


def measured(members: Sequence[Member], data: InMemoryDataModule) -> Costs:
    """Return a function that measures the costs of members of one architecture: an epoch's seconds on their device."""
    device, epochs = device_of(members[0].config), members[0].config["trainer"]["max_epochs"] or 0
    return Timing(members, data, device, epochs=epochs, stacking=by_vmap(data.spec)).epochs_s


def groups_of(members: Sequence[Member], data: InMemoryDataModule, measure: Measure = measured) -> list[list[Member]]:
    """Return the members that can share stacks and gain from it, by stack; the members stay unchanged."""
    alike: dict[Hashable, list[Member]] = defaultdict(list)
    for member in members:
        if _is_all_network(member, data):
            alike[_architecture(member.network)].append(member)
    return [group for group in alike.values() if len(group) > 1 and _may_stack(group, data, measure)]


def _may_stack(members: Sequence[Member], data: InMemoryDataModule, measure: Measure) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # vmap's, about operations in a loop: the costs show it
            return _gives_same_results(members, data) and _pays(measure(members, data), len(members))
    except Exception:  # any error of the user's network is reported by its unbundled training
        return False


def _pays(costs: Costs, members: int) -> bool:
    *alone, together = costs([*(slice(member, member + 1) for member in range(members)), slice(0, members)])
    return together < _ENOUGH * sum(alone)


def _gives_same_results(members: Sequence[Member], data: InMemoryDataModule) -> bool:
    """Return whether copies of members of one architecture give the same results as one stack, on the first rows.

    They do not if a pass changes more than gradients: draws random numbers, writes buffers, counts. Raises what vmap
    raises.
    """
    device = device_of(members[0].config)
    loader, spec = data.train_dataloader(), data.spec
    x, y = (part[: loader.batch_size].to(device) for part in (loader.x, loader.y))
    alone, together = ([copy.deepcopy(member.network).to(device) for member in members] for _ in range(2))
    before = _state(alone)
    wanted = [_unbundled_results(network, x, y, LOSSES[spec.task]) for network in alone]
    found = _stacked_results(together, x, STACKED_LOSSES[spec.task], y, by_vmap(spec))
    return _state(alone) == before and all(map(_is_close, chain(*found), chain(*wanted)))


def _unbundled_results(
    network: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> list[Tensor]:
    """Return a network's outputs in training, its gradient, and its outputs in evaluation."""
    outputs = network(x.clone())
    loss(outputs, y).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return [outputs, _gradient(network), copy.deepcopy(network).eval()(x.clone())]


@torch.no_grad()
def _stacked_results(
    networks: Sequence[nn.Module], x: Tensor, loss: Loss, y: Tensor, stacking: Stacking
) -> list[list[Tensor]]:
    """Return the same for each network, computed by a stack of them."""
    stack = stacking.make(networks)
    training, evaluation = (stack.new_pass(len(x), training=training) for training in (True, False))
    training.x.copy_(x)
    training.forward()
    loss(training.outputs, loss.targets(y), training.output_grads)
    training.backward()
    evaluation.x.copy_(x)
    evaluation.forward()
    found = zip(training.outputs.mT, networks, evaluation.outputs.mT, strict=True)
    return [[outputs, _gradient(network), evaluated] for outputs, network, evaluated in found]


def _gradient(network: nn.Module) -> Tensor:
    """Return the whole gradient as one vector. Raises where a parameter has none: its optimizer skips it."""
    return torch.cat([cast(Tensor, parameter.grad).reshape(-1) for parameter in network.parameters()])


def _is_close(found: Tensor, wanted: Tensor) -> bool:
    alike = (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    return alike and bool((found - wanted).norm() <= _TOLERANCE * wanted.norm())


def _state(networks: Sequence[nn.Module]) -> Hashable:
    """Return all that a pass could change besides gradients."""
    buffers = [_bytes(buffer) for network in networks for buffer in network.buffers()]
    return *map(_architecture, networks), *buffers, random_state()


def _is_all_network(member: Member, data: InMemoryDataModule) -> bool:
    """Return whether a member's module is only a SupervisedModule around its network, whatever its constructor did."""
    module, parameters = member.module, list(member.network.parameters())
    return (
        not any(callable(getattr(SupervisedModule, name, None)) for name in vars(module))
        and module.loss is LOSSES[data.spec.task]
        and module.spec == data.spec
        and not module.automatic_optimization
        and {*map(id, module.parameters())} == {*map(id, parameters)}
        and is_covered(member.optimizer, parameters)
        and not any(getattr(part, hooks) for part in module.modules() for hooks in _HOOKS)
        and not any(getattr(parameter, hooks, None) for parameter in parameters for hooks in _TENSOR_HOOKS)
    )


def _overrides(kind: type, name: str) -> bool:
    """Return whether a class overrides a name of SupervisedModule."""
    if name == "__init__" or not hasattr(SupervisedModule, name):
        return False
    return not name.startswith("__") or callable(vars(kind)[name])


def _architecture(network: nn.Module) -> Hashable:
    """Return a network's structure without the numbers in its parameters and buffers; equal only if known to be so."""
    parts = tuple(
        (name, type(part), part.training, _frozen({k: v for k, v in vars(part).items() if k not in _OF_ANY_MODULE}))
        for name, part in network.named_modules()
    )
    tensors = (*network.named_parameters(), *network.named_buffers())
    return parts, tuple((name, tensor.shape, tensor.dtype, tensor.requires_grad) for name, tensor in tensors)


_OF_ANY_MODULE = frozenset(vars(nn.Module()))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def _frozen(value: Any) -> Hashable:
    """Return a hashable value that equals only those of the same meaning; for most objects, only itself."""
    if isinstance(value, Mapping):
        return type(value), tuple((key, _frozen(own)) for key, own in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(map(_frozen, value))
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    try:
        hash(value)
    except TypeError:
        return type(value), id(value)
    return type(value), value
