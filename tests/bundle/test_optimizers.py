from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from besom.bundle.optimizers import OptimizedMember, stepper
from tests.bundle.members import ADAGRAD, ADAM, ADAMW, HAS_DECOUPLED_ADAM, OPTIMIZERS, RMSPROP, SGD, distance

decays = st.sampled_from([0.0, 1e-3, 0.1])
rates = st.floats(1e-4, 0.1)
epsilons = st.sampled_from([1e-10, 1e-8, 1e-3])


def some(make, **options):
    return st.builds(partial, st.just(make), lr=rates, weight_decay=decays, **options)


decoupled = {"decoupled_weight_decay": st.booleans()} if HAS_DECOUPLED_ADAM else {}
betas = st.tuples(st.floats(0, 0.99), st.floats(0.5, 0.9999))
optimizers = st.one_of(
    some(SGD, momentum=st.floats(0, 0.99), dampening=st.floats(0, 0.9)),
    some(SGD, momentum=st.floats(0.1, 0.99), nesterov=st.just(True)),
    some(ADAM, betas=betas, eps=epsilons, amsgrad=st.booleans(), **decoupled),
    some(ADAMW, betas=betas, eps=epsilons, amsgrad=st.booleans()),
    some(
        RMSPROP,
        alpha=st.sampled_from([0.0, 0.5, 0.99, 0.9999999, 1.0]),
        eps=epsilons,
        momentum=st.sampled_from([0.0, 0.9]),
        centered=st.booleans(),
    ),
    some(ADAGRAD, lr_decay=decays, eps=epsilons, initial_accumulator_value=st.sampled_from([0.0, 0.5])),
)


class Twin:
    """An optimizer that steps by itself, and one of the same kind that is stepped for."""

    def __init__(self, make, dtype, seed):
        self.generator = torch.Generator().manual_seed(seed)
        shapes = [(5, 3), (5,), (2, 5)]
        self.unbundled = [
            torch.randn(shape, dtype=dtype, generator=self.generator).requires_grad_() for shape in shapes
        ]
        self.member = [one.detach().clone().requires_grad_() for one in self.unbundled]
        for parameter in (*self.unbundled, *self.member):
            parameter.grad = torch.zeros_like(parameter)
        self.alone, self.stepped = make(self.unbundled), make(self.member)
        self.state = None

    def optimized(self):
        """Return the member in a rebuilt stack: parameters and gradients are in other memory."""
        for parameter in self.member:
            parameter.data, parameter.grad = parameter.data.clone(), parameter.grad.clone()
        made = OptimizedMember.of(self.stepped, self.state)
        self.state = made.state
        return made

    def feel(self):
        for one, other in zip(self.unbundled, self.member, strict=True):
            noise = torch.randn(one.shape, dtype=one.dtype, generator=self.generator)
            one.grad.copy_(one.detach() + noise)
            other.grad.copy_(other.detach() + noise)

    def rates(self, factor):
        for optimizer in (self.alone, self.stepped):
            optimizer.param_groups[0]["lr"] *= factor

    @property
    def apart(self):
        return max(
            distance(one.detach(), other.detach()) for one, other in zip(self.member, self.unbundled, strict=True)
        )


@torch.no_grad()
def step_all(twins, steps):
    step = stepper([twin.optimized() for twin in twins])
    for _ in range(steps):
        for twin in twins:
            twin.feel()
            twin.alone.step()
        step()


@settings(max_examples=20, deadline=None)
@given(st.lists(optimizers, min_size=1, max_size=4), st.integers(0, 10_000))
def test_lanes_step_as_torchs_own_optimizers_do(makes, seed):
    twins = [Twin(make, torch.float64, seed + index) for index, make in enumerate(makes)]
    step_all(twins, 25)
    assert max(twin.apart for twin in twins) < 1e-10


def test_single_precision_is_as_close_as_rounding_allows():
    twins = [Twin(make, torch.float32, index) for index, make in enumerate(OPTIMIZERS)]
    step_all(twins, 50)
    assert max(twin.apart for twin in twins) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_an_optimizer_remembers_goes_along_when_other_lanes_leave(dtype):
    twins = [Twin(make, dtype, index) for index, make in enumerate(OPTIMIZERS)]
    step_all(twins, 7)
    step_all(twins[::2], 9)
    step_all([twins[4], twins[0], twins[10]], 9)  # in any order, too
    assert max(twin.apart for twin in twins) < (1e-5 if dtype is torch.float32 else 1e-10)


def test_a_learning_rate_that_a_scheduler_moved_counts_from_the_next_stepper_on():
    twins = [Twin(make, torch.float64, index) for index, make in enumerate(OPTIMIZERS)]
    for factor in (0.5, 0.1, 3.0):
        step_all(twins, 6)
        for twin in twins:
            twin.rates(factor)
    step_all(twins, 6)
    assert max(twin.apart for twin in twins) < 1e-10


def test_the_first_gradient_is_the_momentum_whole_whatever_the_dampening():
    twin = Twin(partial(SGD, lr=0.1, momentum=0.9, dampening=0.5), torch.float64, 0)
    before = [one.detach().clone() for one in twin.member]
    step_all([twin], 1)
    for one, was in zip(twin.member, before, strict=True):
        torch.testing.assert_close(one.detach(), was - 0.1 * one.grad)


def test_a_step_to_infinity_is_taken_by_one_lane_alone():
    twins = [Twin(make, torch.float64, index) for index, make in enumerate(OPTIMIZERS)]
    wild = [Twin(partial(make.func, **{**make.keywords, "lr": math.inf}), torch.float64, 50) for make in OPTIMIZERS]
    step_all([member for pair in zip(wild, twins, strict=True) for member in pair], 5)
    assert max(twin.apart for twin in twins) < 1e-10
    assert all(not one.isfinite().all() for twin in wild for one in twin.member)
