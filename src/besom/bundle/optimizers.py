"""The optimizers of all members: each by torch's own definition, with its own hyperparameters.

A member has the torch optimizer of its unbundled training, whose learning rate its scheduler sets; the steps are taken
here, by torch's fused kernels; for RMSprop, which has none, by Adam's. An optimizer that these do not cover (amsgrad,
say) steps by itself.
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
class MemberState:
    """The state of a member's optimizer, as lists parallel to its parameters."""

    steps: Tensor
    lists: dict[str, list[Tensor]] = field(default_factory=dict)

    def zeros(self, name: str, like: Sequence[Tensor], value: float = 0.0) -> list[Tensor]:
        """Return the list of this name, created if it does not exist."""
        if name not in self.lists:
            self.lists[name] = [torch.full_like(tensor, value) for tensor in like]
        return self.lists[name]


@dataclass(frozen=True, eq=False)
class OptimizedMember:
    """A member's optimizer and its state, with the current memory of its parameters and their gradients."""

    optimizer: Optimizer
    state: MemberState
    params: list[Tensor]
    grads: list[Tensor]

    @classmethod
    def of(cls, optimizer: Optimizer, state: MemberState | None = None) -> OptimizedMember:
        """Return the record of an optimizer whose parameters are in a stack."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        grads = [parameter.grad for parameter in parameters]
        assert all(grad is not None for grad in grads)
        state = state or MemberState(torch.zeros((), device=parameters[0].device))
        return cls(optimizer, state, [parameter.data for parameter in parameters], grads)

    @property
    def options(self) -> Mapping[str, Any]:
        """The current hyperparameters."""
        (group,) = self.optimizer.param_groups
        return group


def has_kernels() -> bool:
    """Return whether this torch has the fused kernels: they are private to it, and may disappear."""
    return all(hasattr(torch, f"_fused_{name}_") for name in ("sgd", "adam", "adamw", "adagrad"))


def is_covered(optimizer: Optimizer, parameters: Sequence[Tensor]) -> bool:
    """Return whether an optimizer is supported here, with exactly these parameters in one group."""
    groups = optimizer.param_groups
    return (
        type(optimizer) in _KNOWN
        and len(groups) == 1
        and {*map(id, groups[0]["params"])} == {*map(id, parameters)}
        and not any(groups[0].get(flag) for flag in ("capturable", "differentiable"))
    )


def _is_fused(member: OptimizedMember) -> bool:
    # A constant average of squares (alpha 1) would be corrected by a division by zero.
    return not any(member.options.get(flag) for flag in _UNCOVERED) and member.options.get("alpha", 0.0) < 1.0


def stepper(members: Sequence[OptimizedMember]) -> Callable[[], None]:
    """Return a function that takes a step of every member, with the current hyperparameters."""
    steps = [
        _FUSED[type(member.optimizer).__name__](member) if _is_fused(member) else member.optimizer.step
        for member in members
    ]
    counts = [member.state.steps for member in members]

    def step() -> None:
        torch._foreach_add_(counts, 1.0)
        for take in steps:
            take()

    return step


def _adam(member: OptimizedMember) -> Callable[[], object]:
    options, state = member.options, member.state
    # AdamW by its class: in early versions of torch it has no such flag.
    decoupled = isinstance(member.optimizer, AdamW) or options.get("decoupled_weight_decay")
    kernel: Callable[..., object] = torch._fused_adamw_ if decoupled else torch._fused_adam_
    arguments: tuple[Any, ...] = (
        member.params, member.grads, state.zeros("exp_avg", member.params), state.zeros("exp_avg_sq", member.params),
        [],
        [state.steps] * len(member.params),
    )  # fmt: skip
    beta1, beta2 = map(float, options["betas"])
    numbers: dict[str, Any] = {
        "lr": float(options["lr"]), "beta1": beta1, "beta2": beta2, "eps": float(options["eps"]),
        "weight_decay": float(options["weight_decay"]), "amsgrad": False, "maximize": False,
    }  # fmt: skip
    return lambda: kernel(*arguments, **numbers)


def _sgd(member: OptimizedMember) -> Callable[[], object]:
    options, state = member.options, member.state
    momentum = float(options["momentum"])
    numbers: dict[str, Any] = {
        "weight_decay": float(options["weight_decay"]), "momentum": momentum, "lr": float(options["lr"]),
        "dampening": float(options["dampening"]), "nesterov": bool(options["nesterov"]), "maximize": False,
    }  # fmt: skip
    begun = "momentum" in state.lists
    buffers = state.zeros("momentum", member.params) if momentum else []

    def step() -> None:
        nonlocal begun
        # The first step makes the gradient the buffer, without dampening.
        torch._fused_sgd_(member.params, member.grads, buffers, is_first_step=bool(momentum) and not begun, **numbers)
        begun = True

    return step


def _adagrad(member: OptimizedMember) -> Callable[[], object]:
    options, state = member.options, member.state
    sums = state.zeros("sum", member.params, float(options["initial_accumulator_value"]))
    numbers: dict[str, Any] = {name: float(options[name]) for name in ("lr", "lr_decay", "weight_decay", "eps")}
    steps = [state.steps] * len(member.params)
    return lambda: torch._fused_adagrad_(member.params, member.grads, sums, steps, **numbers, maximize=False)


def _rmsprop(member: OptimizedMember) -> Callable[[], object]:
    # torch has no fused RMSprop, but Adam without a first moment and with its bias corrections at 1 is the same: its
    # first moment is the gradient, which it may overwrite, and after so many steps no correction is left.
    options, state = member.options, member.state
    momentum, weight_decay, rate = (float(options[name]) for name in ("momentum", "weight_decay", "lr"))
    averages = state.zeros("square_avg", member.params)
    late = [torch.full_like(state.steps, _CORRECTED)] * len(member.params)
    numbers: dict[str, Any] = {
        "beta1": 0.0, "beta2": float(options["alpha"]), "eps": float(options["eps"]), "amsgrad": False,
        "maximize": False,
    }  # fmt: skip
    if not momentum:
        numbers |= {"lr": rate, "weight_decay": weight_decay}
        return lambda: torch._fused_adam_(member.params, member.grads, member.grads, averages, [], late, **numbers)
    buffers = state.zeros("momentum", member.params)

    def step() -> None:
        if weight_decay:
            torch._foreach_add_(member.grads, member.params, alpha=weight_decay)
        torch._foreach_mul_(buffers, momentum)
        torch._fused_adam_(
            buffers, member.grads, member.grads, averages, [], late, lr=-1.0, weight_decay=0.0, **numbers
        )
        torch._foreach_add_(member.params, buffers, alpha=-rate)

    return step


_CORRECTED = 1e30
"""A step count of Adam at which `1 - beta2**step` is 1 in double precision, for any beta2 below 1."""

_FUSED: Mapping[str, Callable[[OptimizedMember], Callable[[], object]]] = {
    "SGD": _sgd,
    "Adam": _adam,
    "AdamW": _adam,
    "Adagrad": _adagrad,
    "RMSprop": _rmsprop,
}
