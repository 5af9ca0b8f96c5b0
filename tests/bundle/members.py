"""Networks trained in two ways: each unbundled, by autograd and torch's own optimizer, and all as a stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import signature
from itertools import pairwise
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from besom.bundle.losses import STACKED_LOSSES
from besom.bundle.mlp_stack import Pass, Stack, stacking_key
from besom.bundle.optimizers import OptimizedMember, stepper
from besom.data import Task
from besom.models.network import ACTIVATIONS, INITS, MLP
from besom.models.scoring import LOSSES

FEATURES, CLASSES = 5, 3
ROWS, BATCH = 22, 8  # the last batch of an epoch is short

SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
RMSPROP, ADAGRAD = torch.optim.RMSprop, torch.optim.Adagrad
HAS_DECOUPLED_ADAM = "decoupled_weight_decay" in signature(ADAM).parameters  # from torch 2.7 on

OPTIMIZERS: Sequence[partial[Any]] = (
    partial(SGD, lr=0.05),
    partial(SGD, lr=0.02, momentum=0.9),
    partial(SGD, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.01),
    partial(SGD, lr=0.05, momentum=0.5, dampening=0.3, weight_decay=0.1),
    partial(ADAM, lr=0.01),
    partial(ADAM, lr=0.005, betas=(0.8, 0.99), eps=1e-4, weight_decay=0.1),
    partial(ADAM, lr=0.01, weight_decay=0.1, **({"decoupled_weight_decay": True} if HAS_DECOUPLED_ADAM else {})),
    partial(ADAM, lr=0.01, amsgrad=True),
    partial(ADAMW, lr=0.01, weight_decay=0.1),
    partial(RMSPROP, lr=0.002),
    partial(RMSPROP, lr=0.001, alpha=0.9, momentum=0.9, weight_decay=0.01),
    partial(RMSPROP, lr=0.002, centered=True),
    partial(ADAGRAD, lr=0.05),
    partial(ADAGRAD, lr=0.05, lr_decay=0.1, weight_decay=0.01, eps=1e-6),
)


@dataclass(frozen=True)
class Design:
    """The free choices of a member."""

    sizes: tuple[int, ...] = (6,)
    activation: str = "relu"
    dropout: float = 0.0
    batch_norm: bool = False
    init: str = "default"
    output_activation: str = "linear"
    seed: int = 0
    optimizer: partial[Any] = field(default=OPTIMIZERS[0])
    clip: float | None = None

    def network(self, task: Task, dtype: torch.dtype) -> MLP:
        made = MLP(
            FEATURES, self.sizes, CLASSES if task is Task.MULTICLASS else 1, activation=self.activation,
            dropout=self.dropout, batch_norm=self.batch_norm, init=self.init,
            output_activation=self.output_activation if task is Task.REGRESSION else "linear", seed=self.seed,
        )  # fmt: skip
        return made.to(dtype)


def designs(*, batch_norm: bool, optimizers: Sequence[partial[Any]] = OPTIMIZERS) -> st.SearchStrategy[Design]:
    return st.builds(
        Design,
        sizes=st.lists(st.sampled_from([1, 4, 4, 7]), max_size=3).map(tuple),
        activation=st.sampled_from(sorted(ACTIVATIONS)),
        dropout=st.sampled_from([0.0, 0.0, 0.3, 0.5]),
        batch_norm=st.booleans() if batch_norm else st.just(False),
        init=st.sampled_from(sorted(INITS)),
        output_activation=st.sampled_from(["linear", "relu", "leaky_relu", "elu", "tanh", "sigmoid"]),
        seed=st.integers(0, 2**32 - 1),
        optimizer=st.sampled_from(list(optimizers)),
        clip=st.sampled_from([None, None, 0.1, 1.0]),
    )


@dataclass(frozen=True)
class Problem:
    """Data, and the batches in which it is gone through."""

    task: Task
    x: Tensor
    y: Tensor
    batches: Sequence[Tensor]

    @classmethod
    def of(cls, task: Task, seed: int, dtype: torch.dtype, steps: int, batch: int = BATCH) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(ROWS, FEATURES, dtype=dtype, generator=generator)
        if task is Task.REGRESSION:
            y = x[:, 0] - x[:, 1] + 0.1 * torch.randn(ROWS, dtype=dtype, generator=generator)
        else:
            y = torch.randint(CLASSES if task is Task.MULTICLASS else 2, (ROWS,), generator=generator)
        batches: list[Tensor] = []
        while len(batches) < steps:
            batches += torch.randperm(ROWS, generator=generator).split(batch)
        return cls(task, x, y, batches[:steps])

    def part(self, start: int, stop: int) -> Problem:
        return replace(self, batches=self.batches[start:stop])


@dataclass(eq=False)
class Trained:
    """A member: its network, its optimizer, and the loss of each step."""

    design: Design
    network: MLP
    optimizer: torch.optim.Optimizer
    losses: list[float] = field(default_factory=list)
    state: Any = None

    @classmethod
    def of(cls, design: Design, task: Task, dtype: torch.dtype) -> Trained:
        network = design.network(task, dtype)
        return cls(design, network, design.optimizer(network.parameters()))

    @property
    def settled(self) -> bool:
        """Return whether the parameters that a batch norm makes irrelevant are well-defined.

        The gradient of a bias before it is 0 but for rounding. SGD lets that be; optimizers that divide by the
        gradient's size make steps of it, weight decay from a bias of 0 lets them grow, and the running mean follows.
        """
        return not self.network.batch_norm or isinstance(self.optimizer, SGD)

    @property
    def vector(self) -> Tensor:
        """The learned parameters and running statistics, as far as they are `settled`."""
        values = dict(self.network.state_dict())
        if not self.settled:
            for before, (index, layer) in pairwise(enumerate(self.network.layers)):
                if isinstance(layer, nn.BatchNorm1d):
                    del values[f"layers.{before[0]}.bias"], values[f"layers.{index}.running_mean"]
        return torch.cat([tensor.detach().double().reshape(-1) for tensor in values.values()])

    @torch.no_grad()
    def predictions(self, x: Tensor) -> Tensor:
        """Return the outputs for inputs, [rows, out]."""
        return self.network.eval()(x)


def train_unbundled(member: Trained, problem: Problem) -> None:
    for rows in problem.batches:
        member.optimizer.zero_grad()
        loss = LOSSES[problem.task](member.network(problem.x[rows]), problem.y[rows])
        loss.backward()
        if member.design.clip is not None:
            nn.utils.clip_grad_norm_(member.network.parameters(), member.design.clip)
        member.optimizer.step()
        member.losses.append(loss.item())


@torch.no_grad()
def train_together(members: Sequence[Trained], problem: Problem) -> None:
    """Train members as a stack; called again, with as many or fewer members, it continues from their state."""
    members = sorted(members, key=lambda member: stacking_key(member.network))
    stack = Stack([member.network for member in members])
    passes = {size: Pass(stack, size, training=True) for size in {len(rows) for rows in problem.batches}}
    optimized = [OptimizedMember.of(member.optimizer, member.state) for member in members]
    for member, one in zip(members, optimized, strict=True):
        member.state = one.state
    step, loss = stepper(optimized), STACKED_LOSSES[problem.task]
    for rows in problem.batches:
        through = passes[len(rows)]
        through.x.copy_(problem.x[rows])
        through.forward()
        found = loss(through.outputs, loss.targets(problem.y[rows]), through.output_grads)
        through.backward()
        for member, value in zip(members, found.tolist(), strict=True):
            member.losses.append(value / len(rows))
            if member.design.clip is not None:
                nn.utils.clip_grad_norm_(member.network.parameters(), member.design.clip)
        step()
    stack.count_batches(len(problem.batches))


def outputs_of(stack: Stack, x: Tensor) -> Tensor:
    """Return a stack's outputs for inputs in evaluation, [members, rows, out]."""
    through = Pass(stack, len(x), training=False)
    through.x.copy_(x)
    through.forward()
    return through.outputs.mT


def distance(one: Tensor, other: Tensor) -> float:
    """Return the distance of two tensors, relative to the other's norm."""
    return float((one - other).norm() / other.norm().clamp(min=1e-3))


def furthest(chosen: Sequence[Design], problem: Problem) -> float:
    """Train members in both ways; return the largest distance of their losses, parameters and predictions."""
    dtype = problem.x.dtype
    together = [Trained.of(design, problem.task, dtype) for design in chosen]
    alone = [Trained.of(design, problem.task, dtype) for design in chosen]
    train_together(together, problem)
    worst = 0.0
    for member, unbundled in zip(together, alone, strict=True):
        train_unbundled(unbundled, problem)
        worst = max(
            worst,
            distance(member.vector, unbundled.vector),
            distance(torch.tensor(member.losses, dtype=dtype), torch.tensor(unbundled.losses, dtype=dtype)),
        )
        if member.settled:
            worst = max(worst, distance(member.predictions(problem.x), unbundled.predictions(problem.x)))
    return worst
