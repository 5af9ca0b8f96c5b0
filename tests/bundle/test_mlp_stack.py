from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from besom.bundle.losses import STACKED_LOSSES
from besom.bundle.mlp_stack import Pass, Stack, stacking_key
from besom.data import Task
from besom.models.network import ACTIVATIONS, MLP
from besom.models.scoring import LOSSES
from tests.bundle.members import (
    ADAM,
    CLASSES,
    FEATURES,
    OPTIMIZERS,
    SGD,
    Design,
    Problem,
    Trained,
    designs,
    distance,
    furthest,
    outputs_of,
    train_together,
    train_unbundled,
)

tasks, seeds = st.sampled_from(list(Task)), st.integers(0, 10_000)
PLAIN = [make for make in OPTIMIZERS if make.func is SGD]


def few(examples):
    return settings(max_examples=examples, deadline=None)


@few(9)
@given(st.lists(designs(batch_norm=True), min_size=1, max_size=4), tasks, seeds)
def test_any_lanes_train_as_each_would_alone(chosen, task, seed):
    assert furthest(chosen, Problem.of(task, seed, torch.float64, steps=50)) < 1e-10


@few(9)
@given(st.lists(designs(batch_norm=False), min_size=1, max_size=4), tasks, seeds)
def test_any_lanes_train_as_each_would_alone_in_single_precision(chosen, task, seed):
    assert furthest(chosen, Problem.of(task, seed, torch.float32, steps=50)) < 1e-5


@few(6)
@given(st.lists(designs(batch_norm=True, optimizers=PLAIN), min_size=1, max_size=3), seeds)
def test_batch_norm_in_single_precision_holds_where_the_optimizer_makes_nothing_of_rounding(chosen, seed):
    # By SGD alone: see `Trained.settled`. Ten steps, since a batch norm of eight rows soon magnifies any difference.
    chosen = [replace(design, batch_norm=True) for design in chosen]
    assert furthest(chosen, Problem.of(Task.MULTICLASS, seed, torch.float32, steps=10)) < 1e-5


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("batch", [1, 22])
def test_batches_of_one_row_and_of_all_rows_are_batches_like_others(task, batch):
    chosen = [
        Design(sizes=sizes, activation=activation, dropout=dropout, optimizer=partial(ADAM, lr=0.01))
        for sizes, activation, dropout in product([(), (4,), (4, 3)], ["relu", "gelu"], [0.0, 0.4])
    ]
    assert furthest(chosen, Problem.of(task, 5, torch.float64, 10, batch=batch)) < 1e-10


def every_kind() -> list[MLP]:
    shapes = [(), (5,), (5,), (7, 3), (4, 4, 6)]
    kinds = product(sorted(ACTIVATIONS), shapes, (False, True), (0.0, 0.3))
    networks = [
        MLP(FEATURES, sizes, CLASSES, activation=activation, batch_norm=norm, dropout=dropout, seed=seed).double()
        for seed, (activation, sizes, norm, dropout) in enumerate(kinds)
    ]
    return sorted(networks, key=stacking_key)


def test_gradients_of_every_kind_of_lane_in_one_stack_are_autograds():
    networks = every_kind()
    alone = copy.deepcopy(networks)
    stack = Stack(networks)
    through = Pass(stack, 8, training=True)
    problem = Problem.of(Task.MULTICLASS, 0, torch.float64, 2)
    for rows in problem.batches:
        through.x.copy_(problem.x[rows])
        with torch.no_grad():
            through.forward()
            STACKED_LOSSES[Task.MULTICLASS](through.outputs, problem.y[rows], through.output_grads)
            through.backward()
        for network, unbundled in zip(networks, alone, strict=True):
            unbundled.zero_grad()
            LOSSES[Task.MULTICLASS](unbundled(problem.x[rows]), problem.y[rows]).backward()
            for one, other in zip(network.parameters(), unbundled.parameters(), strict=True):
                torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-13)
    stack.count_batches(2)
    for network, unbundled in zip(networks, alone, strict=True):
        torch.testing.assert_close(network.state_dict(), unbundled.state_dict(), rtol=0, atol=1e-13)


def test_networks_in_a_stack_still_work_by_themselves():
    networks = every_kind()
    alone = copy.deepcopy(networks)
    stack = Stack(networks)
    x = Problem.of(Task.MULTICLASS, 1, torch.float64, 1).x
    said = outputs_of(stack, x)
    for network, unbundled, outputs in zip(networks, alone, said, strict=True):
        assert {name: t.shape for name, t in network.state_dict().items()} == {
            name: t.shape for name, t in unbundled.state_dict().items()
        }
        with torch.no_grad():
            assert torch.equal(network.eval()(x), unbundled.eval()(x))
            assert distance(outputs, unbundled(x)) < 1e-13
        network(x).sum().backward()  # and by autograd as well
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_what_is_loaded_into_a_network_is_what_its_stack_computes_with():
    networks = every_kind()
    stack = Stack(networks)
    x = Problem.of(Task.MULTICLASS, 2, torch.float64, 1).x
    others = [
        MLP(FEATURES, one.hidden_sizes, CLASSES, activation=one.activation, batch_norm=one.batch_norm,
            dropout=one.dropout, seed=1000 + index).double()
        for index, one in enumerate(networks)
    ]  # fmt: skip
    for network, other in zip(networks, others, strict=True):
        network.load_state_dict(other.state_dict())
    for outputs, other in zip(outputs_of(stack, x), others, strict=True):
        with torch.no_grad():
            assert distance(outputs, other.eval()(x)) < 1e-13


def test_a_lane_that_goes_nan_leaves_its_neighbours_as_they_are():
    kinds = product([(), (4,), (4, 4)], (False, True), (0.0, 0.3))
    healthy = [
        Design(sizes=sizes, batch_norm=norm, dropout=dropout, seed=seed)
        for seed, (sizes, norm, dropout) in enumerate(kinds)
    ]
    sick = [replace(design, optimizer=partial(SGD, lr=1e300), seed=99) for design in healthy]
    problem = Problem.of(Task.REGRESSION, 3, torch.float64, 12)
    members = [Trained.of(design, problem.task, torch.float64) for design in [*healthy, *sick]]
    train_together(members, problem)
    assert all(not member.vector.isfinite().all() for member in members[len(healthy) :])
    for member in members[: len(healthy)]:
        unbundled = Trained.of(member.design, problem.task, torch.float64)
        train_unbundled(unbundled, problem)
        assert distance(member.vector, unbundled.vector) < 1e-10


@few(6)
@given(st.lists(designs(batch_norm=True), min_size=2, max_size=4), tasks, seeds, st.data())
def test_lanes_that_leave_take_nothing_from_those_that_stay(chosen, task, seed, data):
    # The stack is built anew without them: what optimizers and dropout remember goes on.
    staying = data.draw(st.lists(st.sampled_from(range(len(chosen))), min_size=1, unique=True))
    problem = Problem.of(task, seed, torch.float64, 24)
    members = [Trained.of(design, task, torch.float64) for design in chosen]
    train_together(members, problem.part(0, 10))
    left = [member for index, member in enumerate(members) if index not in staying]
    as_they_were = [member.vector for member in left]
    train_together([members[index] for index in staying], problem.part(10, 24))
    for index in staying:
        unbundled = Trained.of(chosen[index], task, torch.float64)
        train_unbundled(unbundled, problem)
        assert distance(members[index].vector, unbundled.vector) < 1e-10
    assert all(torch.equal(member.vector, before) for member, before in zip(left, as_they_were, strict=True))
