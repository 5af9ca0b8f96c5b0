from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from besom.bundle.losses import STACKED_LOSSES
from besom.bundle.optimizers import OptimizedMember, stepper
from besom.bundle.vmap_stack import FunctionalStack
from besom.data import Task
from besom.models.scoring import LOSSES
from tests.bundle.members import OPTIMIZERS, distance
from tests.bundle.own_models import Block, Images, RandomFeatures

FEATURES, CLASSES, ROWS, BATCH = 16, 3, 22, 8  # the last batch of an epoch is short


class Tied(nn.Module):
    """One layer, gone through twice under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(FEATURES, FEATURES)
        self.other = self.one
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.other(torch.tanh(self.one(x))))


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: nn.Sequential(
        *[Block(FEATURES, nn.LayerNorm(FEATURES), 0.0)] * 2, nn.Linear(FEATURES, CLASSES)
    ),
    "convolutions": lambda: Images(3, FEATURES, CLASSES, kinks=True),
    "groups": lambda: nn.Sequential(nn.Unflatten(1, (4, 4)), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, CLASSES)),
    "buffers": lambda: nn.Sequential(RandomFeatures(FEATURES), nn.Linear(8, CLASSES)),
    "tied": Tied,
}


def drawn(architecture: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return ARCHITECTURES[architecture]().double()


def problem(seed: int, steps: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Inputs, classes, and the rows of each batch."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, FEATURES, dtype=torch.float64, generator=generator)
    y = torch.randint(CLASSES, (ROWS,), generator=generator)
    batches: list[Tensor] = []
    while len(batches) < steps:
        batches += torch.randperm(ROWS, generator=generator).split(BATCH)
    return x, y, batches[:steps]


def train_unbundled(networks: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer], x, y, batches) -> None:
    for network, optimizer in zip(networks, optimizers, strict=True):
        for rows in batches:
            optimizer.zero_grad()
            LOSSES[Task.MULTICLASS](network(x[rows]), y[rows]).backward()
            optimizer.step()


@torch.no_grad()
def train_together(networks: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer], x, y, batches) -> None:
    stack = FunctionalStack(networks, features=FEATURES, outputs=CLASSES)
    loss, step = STACKED_LOSSES[Task.MULTICLASS], stepper([OptimizedMember.of(one) for one in optimizers])
    for rows in batches:
        through = stack.new_pass(len(rows), training=True)
        through.x.copy_(x[rows])
        through.forward()
        loss(through.outputs, loss.targets(y[rows]), through.output_grads)
        through.backward()
        step()


def vector(network: nn.Module) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in network.state_dict().values()])


@settings(max_examples=20, deadline=None)
@given(
    architecture=st.sampled_from(sorted(ARCHITECTURES)),
    makers=st.lists(st.sampled_from(list(OPTIMIZERS)), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
)
def test_networks_of_any_architecture_train_as_each_would_alone(architecture, makers, seed):
    together = [drawn(architecture, seed + member) for member in range(len(makers))]
    alone = copy.deepcopy(together)
    for train, networks in ((train_together, together), (train_unbundled, alone)):
        optimizers = [make(network.parameters()) for make, network in zip(makers, networks, strict=True)]
        train(networks, optimizers, *problem(seed, steps=50))
    for one, other in zip(together, alone, strict=True):
        assert distance(vector(one), vector(other)) < 1e-10


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_networks_in_a_stack_still_work_by_themselves_and_what_is_loaded_into_one_is_computed_with(architecture):
    networks = [drawn(architecture, seed) for seed in range(3)]
    names = [list(network.state_dict()) for network in networks]
    stack = FunctionalStack(networks, features=FEATURES, outputs=CLASSES)
    x, *_ = problem(0, steps=1)
    networks[1].load_state_dict({**networks[1].state_dict(), **dict(drawn(architecture, 99).named_parameters())})
    through = stack.new_pass(ROWS, training=False)
    through.x.copy_(x)
    through.forward()
    for member, network in enumerate(networks):
        assert list(network.state_dict()) == names[member]
        with torch.no_grad():
            assert distance(through.outputs[member].T, network(x)) < 1e-13
    assert distance(networks[1](x), networks[0](x)) > 1e-3


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_lane_of_nans_leaves_its_neighbours_as_they_are(architecture):
    networks = [drawn(architecture, seed) for seed in range(3)]
    nn.init.constant_(next(networks[1].parameters()), float("nan"))
    alone = copy.deepcopy(networks)
    for train, them in ((train_together, networks), (train_unbundled, alone)):
        train(them, [torch.optim.SGD(one.parameters(), lr=0.01) for one in them], *problem(1, steps=8))
    assert all(parameter.isnan().any() for parameter in networks[1].parameters())
    for member in (0, 2):
        assert distance(vector(networks[member]), vector(alone[member])) < 1e-10


def test_networks_that_differ_are_refused():
    with pytest.raises(RuntimeError):
        FunctionalStack([nn.Linear(FEATURES, 3), nn.Linear(FEATURES, 4)], features=FEATURES, outputs=3)
