"""Which modules of a user's own may share a stack: what they are is looked at, and whether it works is tried.

Those that may are trained by `SupervisedModule`'s own loop and differ in nothing but the numbers in their parameters
and buffers. Then copies of them make a pass both ways, and the stack must come to the same, and sooner.
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
"""Finds out what lanes of one architecture cost, alone and as a stack."""

_TOLERANCE = 1e-5
_ENOUGH = 0.8  # of the time that it takes alone: a smaller gain is lost in evaluation, and on finding out
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def keeps_the_loop(target: str) -> bool:
    """Whether a `_target_` names a SupervisedModule that overrides nothing of it but the constructor."""
    try:
        kind = get_class(target)
    except Exception:  # whatever it raises, it will raise again where it is trained alone
        return False
    return issubclass(kind, SupervisedModule) and not any(
        _overrides(own, name) for own in kind.__mro__ if own not in SupervisedModule.__mro__ for name in vars(own)
    )


def random_state() -> Hashable:
    """Return the state of the generators that everybody shares, as something to compare."""
    numpy: Any = np.random.get_state()
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states += torch.cuda.get_rng_state_all()
    return random.getstate(), _frozen(numpy), *map(_bytes, states)


def measured(members: Sequence[Member], data: InMemoryDataModule) -> Costs:
    """Return what tells the costs of lanes of one architecture: an epoch's seconds, on their device."""
    device, epochs = device_of(members[0].config), members[0].config["trainer"]["max_epochs"] or 0
    return Timing(members, data, device, epochs=epochs, stacking=by_vmap(data.spec)).epochs_s


def groups_of(members: Sequence[Member], data: InMemoryDataModule, measure: Measure = measured) -> list[list[Member]]:
    """Return those of the lanes that can share stacks and gain from it, stack by stack; the lanes stay as they are."""
    alike: dict[Hashable, list[Member]] = defaultdict(list)
    for member in members:
        if _is_all_network(member, data):
            alike[_architecture(member.network)].append(member)
    return [group for group in alike.values() if len(group) > 1 and _may_stack(group, data, measure)]


def _may_stack(members: Sequence[Member], data: InMemoryDataModule, measure: Measure) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # vmap's, of operations that it takes lane by lane: the costs tell
            return _works(members, data) and _pays(measure(members, data), len(members))
    except Exception:  # anything may go wrong in somebody else's network; alone, it says what
        return False


def _pays(costs: Costs, members: int) -> bool:
    *alone, together = costs([*(slice(member, member + 1) for member in range(members)), slice(0, members)])
    return together < _ENOUGH * sum(alone)


def _works(members: Sequence[Member], data: InMemoryDataModule) -> bool:
    """Whether copies of lanes of one architecture come to the same as one stack, on the first rows.

    Not if a pass changes more than gradients: draws random numbers, writes buffers, counts. Raises what vmap raises.
    """
    device = device_of(members[0].config)
    loader, spec = data.train_dataloader(), data.spec
    x, y = (part[: loader.batch_size].to(device) for part in (loader.x, loader.y))
    alone, together = ([copy.deepcopy(member.network).to(device) for member in members] for _ in range(2))
    before = _state(alone)
    wanted = [_alone(network, x, y, LOSSES[spec.task]) for network in alone]
    found = _together(together, x, STACKED_LOSSES[spec.task], y, by_vmap(spec))
    return _state(alone) == before and all(map(_is_close, chain(*found), chain(*wanted)))


def _alone(network: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """Return a network's outputs in training, its gradient, and its outputs in evaluation."""
    outputs = network(x.clone())
    loss(outputs, y).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return [outputs, _gradient(network), copy.deepcopy(network).eval()(x.clone())]


@torch.no_grad()
def _together(
    networks: Sequence[nn.Module], x: Tensor, loss: Loss, y: Tensor, stacking: Stacking
) -> list[list[Tensor]]:
    """Return the same of each network, found by a stack of them."""
    stack = stacking.make(networks)
    training, evaluation = (stack.through(len(x), training=training) for training in (True, False))
    training.x.copy_(x)
    training.forward()
    loss(training.outputs, loss.targets(y), training.output_grads)
    training.backward()
    evaluation.x.copy_(x)
    evaluation.forward()
    found = zip(training.outputs.mT, networks, evaluation.outputs.mT, strict=True)
    return [[outputs, _gradient(network), evaluated] for outputs, network, evaluated in found]


def _gradient(network: nn.Module) -> Tensor:
    """All of it as one vector. Raises where a parameter has none: its optimizer leaves it alone."""
    return torch.cat([cast(Tensor, parameter.grad).reshape(-1) for parameter in network.parameters()])


def _is_close(found: Tensor, wanted: Tensor) -> bool:
    alike = (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    return alike and bool((found - wanted).norm() <= _TOLERANCE * wanted.norm())


def _state(networks: Sequence[nn.Module]) -> Hashable:
    """Whatever a pass could change beside gradients."""
    buffers = [_bytes(buffer) for network in networks for buffer in network.buffers()]
    return *map(_architecture, networks), *buffers, random_state()


def _is_all_network(member: Member, data: InMemoryDataModule) -> bool:
    """Whether a lane's module is a SupervisedModule around its network and no more, whatever its constructor did."""
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
    """Whether what a class says under a name takes the place of something of SupervisedModule's."""
    if name == "__init__" or not hasattr(SupervisedModule, name):
        return False
    return not name.startswith("__") or callable(vars(kind)[name])


def _architecture(network: nn.Module) -> Hashable:
    """All that there is to a network but the numbers in its parameters and buffers; equal only where known to be."""
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
    """A value as something that is equal only to what means the same; of most objects, only to itself."""
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
