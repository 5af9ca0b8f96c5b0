"""The costs of members, measured on copies of them before they train."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn
from torch.optim import Optimizer

from besom.bundle.losses import STACKED_LOSSES
from besom.bundle.member import Member
from besom.bundle.optimizers import OptimizedMember, stepper
from besom.bundle.stacking import MLP_STACKING, Stacking
from besom.data import Batches, InMemoryDataModule

_MOST_S, _LEAST_S, _SHARE = 0.3, 0.1, 0.02  # the share is of the expected training time
_ROUNDS, _ENOUGH_S = 3, 0.01  # each step is timed this often, a long one less often
# The time of an epoch besides its steps, for any number of members: Lightning's loop, the metrics, the reports.
_EPOCH_S = 0.01

Step = Callable[[], None]


class Timing:
    """Times steps of copies of members on a batch of their data; the members and the order of the data stay unchanged.

    `in_time` is true for 0.3 s, or for 2 % of the expected training time if that is less, but for at least 0.1 s.
    """

    def __init__(
        self,
        members: Sequence[Member],
        data: InMemoryDataModule,
        device: torch.device,
        *,
        epochs: int,
        stacking: Stacking = MLP_STACKING,
    ) -> None:
        self._members = members
        self._stacking = stacking
        self._device = device
        self._task = data.spec.task
        self._epochs = epochs if epochs > 0 else math.inf
        loader = data.train_dataloader()
        x, y = next(iter(cast(Batches, next(iter(loader)))))
        self._x, self._y = x.to(device), y.to(device)
        self._steps = math.ceil(data.sizes["train"] / loader.batch_size)
        # The thread's CPU time where one thread does all the work: other processes do not affect it.
        one_thread = device.type == "cpu" and torch.get_num_threads() == 1
        self._clock = time.thread_time if one_thread else time.perf_counter
        self._began_s = self._clock()
        self._budget_s: float | None = None

    def epochs_s(self, parts: Sequence[slice]) -> list[float]:
        """Return the seconds of an epoch for each part of the members: a single one unbundled, several as a stack."""
        members = [self._members[part] for part in parts]
        steps = [self._unbundled_step(*some) if len(some) == 1 else self._stacked_step(some) for some in members]
        seconds = [self._steps * step_s + _EPOCH_S for step_s in self._quickest_s(steps)]
        if self._budget_s is None:
            expected_s = self._epochs * seconds[0] * len(self._members) / len(members[0])
            self._budget_s = min(_MOST_S, max(_LEAST_S, _SHARE * expected_s))
        return seconds

    def in_time(self) -> bool:
        """Return whether there is time to measure more."""
        return self._budget_s is None or self._clock() - self._began_s < self._budget_s

    def _quickest_s(self, steps: Sequence[Step]) -> list[float]:
        rounds: list[list[float]] = []
        # In turn, since a machine's speed drifts: the steps are compared under the same conditions.
        while len(rounds) < _ROUNDS and sum(map(sum, rounds)) < _ENOUGH_S * len(steps):
            rounds.append([self._taken_s(step) for step in steps])
        return [min(taken) for taken in zip(*rounds, strict=True)]

    def _taken_s(self, step: Step) -> float:
        step()  # refills the caches, which other steps have evicted: in training there are no other steps
        return min(self._timed_s(step) for _ in range(2))

    def _timed_s(self, step: Step) -> float:
        self._wait()
        began_s = self._clock()
        step()
        self._wait()
        return self._clock() - began_s

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _unbundled_step(self, member: Member) -> Step:
        """Return a function that takes a step as `SupervisedModule` does."""
        network, optimizer = self._copied(member)
        parameters, norm, loss = list(network.parameters()), member.module.gradient_clip_norm, member.module.loss

        def step() -> None:
            optimizer.zero_grad()
            loss(network(self._x), self._y).backward()  # type: ignore[no-untyped-call]
            if norm is not None:
                nn.utils.clip_grad_norm_(parameters, norm)
            optimizer.step()

        return step

    def _stacked_step(self, members: Sequence[Member]) -> Step:
        """Return a function that takes a step as `StackedModule` does."""
        members = sorted(members, key=lambda member: self._stacking.key(member.network))
        copies = [self._copied(member) for member in members]
        stack = self._stacking.make([network for network, _ in copies])
        stack_pass, loss = stack.new_pass(len(self._y), training=True), STACKED_LOSSES[self._task]
        take = stepper([OptimizedMember.of(optimizer) for _, optimizer in copies])
        clipped = [
            (list(network.parameters()), member.module.gradient_clip_norm)
            for (network, _), member in zip(copies, members, strict=True)
            if member.module.gradient_clip_norm is not None
        ]

        @torch.no_grad()
        def step() -> None:
            stack_pass.x.copy_(self._x)
            stack_pass.forward()
            loss(stack_pass.outputs, loss.targets(self._y), stack_pass.output_grads)
            loss.kept(stack_pass.outputs)
            stack_pass.backward()
            for parameters, norm in clipped:
                nn.utils.clip_grad_norm_(parameters, norm)
            take()

        return step

    def _copied(self, member: Member) -> tuple[nn.Module, Optimizer]:
        """Return copies of a member's network, on the device, and of its optimizer, which refers to that network."""
        network, optimizer = copy.deepcopy((member.network, member.optimizer))
        return network.to(self._device), optimizer
