"""The optimizers of all lanes: each by torch's own definition, with hyperparameters of its own.

A lane has the torch optimizer that it would have alone, and its scheduler moves that one's learning rate; here its
step is taken, by torch's fused kernels for SGD, Adam, AdamW and Adagrad, and for RMSprop, which has none, by
multi-tensor operations over all lanes that use it. What these do not cover (amsgrad, say) steps by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

_KNOWN = (torch.optim.SGD, torch.optim.Adam, AdamW, torch.optim.RMSprop, torch.optim.Adagrad)
_UNCOVERED = ("maximize", "amsgrad", "centered", "differentiable", "capturable")


@dataclass(eq=False)
class LaneState:
    """What a lane's optimizer remembers from step to step, as lists along its parameters."""

    steps: Tensor
    lists: dict[str, list[Tensor]] = field(default_factory=dict)

    def zeros(self, name: str, like: Sequence[Tensor], value: float = 0.0) -> list[Tensor]:
        """A list of this name, begun where it is not there yet."""
        if name not in self.lists:
            self.lists[name] = [torch.full_like(tensor, value) for tensor in like]
        return self.lists[name]


@dataclass(frozen=True, eq=False)
class OptimizedLane:
    """A lane's optimizer, what it remembers, and the memory of its parameters and their gradients now."""

    optimizer: Optimizer
    state: LaneState
    params: list[Tensor]
    grads: list[Tensor]

    @classmethod
    def of(cls, optimizer: Optimizer, state: LaneState | None = None) -> OptimizedLane:
        """Look at an optimizer's parameters, which lie in a stack."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        grads = [parameter.grad for parameter in parameters]
        assert all(grad is not None for grad in grads)
        state = state or LaneState(torch.zeros((), device=parameters[0].device))
        return cls(optimizer, state, [parameter.data for parameter in parameters], grads)

    @property
    def options(self) -> Mapping[str, Any]:
        """The hyperparameters, as they are now."""
        (group,) = self.optimizer.param_groups
        return group


def is_covered(optimizer: Optimizer, parameters: Sequence[Tensor]) -> bool:
    """Whether an optimizer is one of those that are known here, for just these parameters, in one group."""
    groups = optimizer.param_groups
    return (
        type(optimizer) in _KNOWN
        and len(groups) == 1
        and {*map(id, groups[0]["params"])} == {*map(id, parameters)}
        and not any(groups[0].get(flag) for flag in ("capturable", "differentiable"))
    )


def stepper(lanes: Sequence[OptimizedLane]) -> Callable[[], None]:
    """Return what takes a step of every lane, with the hyperparameters that they have now."""
    steps: list[Callable[[], object]] = []
    averaged: list[OptimizedLane] = []
    for lane in lanes:
        kind = type(lane.optimizer).__name__
        if any(lane.options.get(flag) for flag in _UNCOVERED):
            steps.append(lane.optimizer.step)
        elif kind == "RMSprop":
            averaged.append(lane)
        else:
            steps.append(_FUSED[kind](lane))
    counts = [lane.state.steps for lane in lanes]
    if averaged:
        steps.append(_rmsprop(averaged))

    def step() -> None:
        torch._foreach_add_(counts, 1.0)
        for one in steps:
            one()

    return step


def _adam(lane: OptimizedLane) -> Callable[[], object]:
    options, state = lane.options, lane.state
    # AdamW by its class: in early versions of torch it has no such flag.
    decoupled = isinstance(lane.optimizer, AdamW) or options.get("decoupled_weight_decay")
    kernel: Callable[..., object] = torch._fused_adamw_ if decoupled else torch._fused_adam_
    arguments: tuple[Any, ...] = (
        lane.params, lane.grads, state.zeros("exp_avg", lane.params), state.zeros("exp_avg_sq", lane.params), [],
        [state.steps] * len(lane.params),
    )  # fmt: skip
    beta1, beta2 = map(float, options["betas"])
    numbers: dict[str, Any] = {
        "lr": float(options["lr"]), "beta1": beta1, "beta2": beta2, "eps": float(options["eps"]),
        "weight_decay": float(options["weight_decay"]), "amsgrad": False, "maximize": False,
    }  # fmt: skip
    return lambda: kernel(*arguments, **numbers)


def _sgd(lane: OptimizedLane) -> Callable[[], object]:
    options, state = lane.options, lane.state
    momentum = float(options["momentum"])
    numbers: dict[str, Any] = {
        "weight_decay": float(options["weight_decay"]), "momentum": momentum, "lr": float(options["lr"]),
        "dampening": float(options["dampening"]), "nesterov": bool(options["nesterov"]), "maximize": False,
    }  # fmt: skip
    begun = "momentum" in state.lists
    buffers = state.zeros("momentum", lane.params) if momentum else []

    def step() -> None:
        nonlocal begun
        # The first step makes the gradient the buffer, without dampening.
        torch._fused_sgd_(lane.params, lane.grads, buffers, is_first_step=bool(momentum) and not begun, **numbers)
        begun = True

    return step


def _adagrad(lane: OptimizedLane) -> Callable[[], object]:
    options, state = lane.options, lane.state
    sums = state.zeros("sum", lane.params, float(options["initial_accumulator_value"]))
    numbers: dict[str, Any] = {name: float(options[name]) for name in ("lr", "lr_decay", "weight_decay", "eps")}
    steps = [state.steps] * len(lane.params)
    return lambda: torch._fused_adagrad_(lane.params, lane.grads, sums, steps, **numbers, maximize=False)


def _rmsprop(lanes: Sequence[OptimizedLane]) -> Callable[[], None]:
    params = [tensor for lane in lanes for tensor in lane.params]
    grads = [tensor for lane in lanes for tensor in lane.grads]
    averages = [tensor for lane in lanes for tensor in lane.state.zeros("square_avg", lane.params)]
    sizes = [len(lane.params) for lane in lanes]

    def along(value: Callable[[Mapping[str, Any]], float]) -> list[float]:
        return [number for lane, size in zip(lanes, sizes, strict=True) for number in [value(lane.options)] * size]

    alpha, rest = along(lambda one: float(one["alpha"])), along(lambda one: 1 - float(one["alpha"]))
    eps, rate = along(lambda one: float(one["eps"])), along(lambda one: -float(one["lr"]))
    decay = [(t, g, float(lane.options["weight_decay"])) for lane in lanes if lane.options["weight_decay"]
             for t, g in zip(lane.params, lane.grads, strict=True)]  # fmt: skip
    pushed = [lane for lane in lanes if lane.options["momentum"]]
    plain = [lane for lane in lanes if not lane.options["momentum"]]
    places = _places(lanes, sizes)

    def step() -> None:
        for tensor, grad, factor in decay:
            grad.add_(tensor, alpha=factor)
        torch._foreach_mul_(averages, alpha)
        torch._foreach_addcmul_(averages, grads, grads, rest)
        roots = torch._foreach_sqrt(averages)
        torch._foreach_add_(roots, eps)
        if not pushed:
            torch._foreach_addcdiv_(params, grads, roots, rate)
            return
        for lane in plain:
            at = places[id(lane)]
            torch._foreach_addcdiv_(lane.params, lane.grads, roots[at], rate[at])
        for lane in pushed:
            at = places[id(lane)]
            buffers = lane.state.zeros("momentum", lane.params)
            torch._foreach_mul_(buffers, float(lane.options["momentum"]))
            torch._foreach_addcdiv_(buffers, lane.grads, roots[at])
            torch._foreach_add_(lane.params, buffers, alpha=rate[at][0])

    return step


def _places(lanes: Sequence[OptimizedLane], sizes: Sequence[int]) -> dict[int, slice]:
    places, start = {}, 0
    for lane, size in zip(lanes, sizes, strict=True):
        places[id(lane)] = slice(start, start + size)
        start += size
    return places


_FUSED: Mapping[str, Callable[[OptimizedLane], Callable[[], object]]] = {
    "SGD": _sgd,
    "Adam": _adam,
    "AdamW": _adam,
    "Adagrad": _adagrad,
}
