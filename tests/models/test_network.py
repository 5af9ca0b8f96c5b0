from __future__ import annotations

import copy
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

from besom.errors import ConfigError
from besom.models import MLP
from besom.models.network import ACTIVATIONS, INITS, SeededDropout, dropout_seed


def test_default_init_starts_where_torch_would():
    torch.manual_seed(11)
    reference = [nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(3, 2)]
    ours = MLP(5, (4, 3), 2, seed=11).linears
    for mine, theirs in zip(ours, reference, strict=True):
        assert torch.equal(mine.weight, theirs.weight)
        assert torch.equal(mine.bias, theirs.bias)


@pytest.mark.parametrize("init", INITS)
def test_init_depends_on_the_seed_and_on_nothing_else(init):
    torch.manual_seed(1)
    first = MLP(6, (8,), 3, init=init, seed=4)
    torch.manual_seed(2)
    second, other = MLP(6, (8,), 3, init=init, seed=4), MLP(6, (8,), 3, init=init, seed=5)
    assert torch.equal(first.linears[0].weight, second.linears[0].weight)
    assert not torch.equal(first.linears[0].weight, other.linears[0].weight)


@pytest.mark.parametrize(
    ("init", "deviation"),
    [
        ("default", (1 / 300 / 3) ** 0.5),
        ("xavier_uniform", (2 / 700) ** 0.5),
        ("xavier_normal", (2 / 700) ** 0.5),
        ("kaiming_uniform", (2 / 300) ** 0.5),
        ("kaiming_normal", (2 / 300) ** 0.5),
        ("orthogonal", 400**-0.5),
    ],
)
def test_each_init_has_its_standard_deviation(init, deviation):
    weight = MLP(300, (), 400, init=init).linears[0].weight
    assert weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert weight.mean().abs().item() < 0.1 * deviation


@pytest.mark.parametrize("init", sorted(set(INITS) - {"default"}))
def test_biases_start_at_zero_but_for_the_default(init):
    assert not MLP(3, (4,), 2, init=init).linears[0].bias.any()


def test_the_global_generators_are_neither_read_nor_moved():
    def run(global_seed):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        network = MLP(4, (8, 8), 2, dropout=0.5, batch_norm=True, init="orthogonal", seed=3)
        outputs = network(torch.ones(16, 4))
        assert torch.equal(before[0], torch.get_rng_state())
        assert (before[1] == np.random.get_state()[1]).all()
        assert before[2] == random.getstate()
        return outputs

    assert torch.equal(run(0), run(1))


def test_dropout_keeps_the_mean_and_drops_its_share():
    dropped = SeededDropout(0.25, seed=1)(torch.ones(100, 1000))
    assert dropped.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)


def test_dropout_draws_anew_each_time_and_follows_its_seed():
    x = torch.ones(4, 50)
    one, same, other = SeededDropout(0.5, seed=1), SeededDropout(0.5, seed=1), SeededDropout(0.5, seed=2)
    first = one(x)
    assert torch.equal(first, same(x))
    assert not torch.equal(first, one(x))
    assert not torch.equal(first, other(x))


def test_dropout_is_the_identity_in_evaluation():
    x = torch.ones(3, 3)
    assert SeededDropout(0.9, seed=0).eval()(x) is x


def test_dropout_is_copied_and_pickled_with_its_place_in_the_stream():
    dropout, x = SeededDropout(0.5, seed=7), torch.ones(2, 40)
    dropout(x)
    copied, pickled = copy.deepcopy(dropout), pickle.loads(pickle.dumps(dropout))
    expected = dropout(x)
    assert torch.equal(expected, copied(x))
    assert torch.equal(expected, pickled(x))


def test_dropout_layers_of_one_network_have_different_seeds():
    network = MLP(2, (4, 4, 4), 1, dropout=0.5, seed=9)
    seeds = [layer.seed for layer in network.layers if isinstance(layer, SeededDropout)]
    assert seeds == [dropout_seed(9, index) for index in range(3)]
    assert len({*seeds, *(dropout_seed(10, index) for index in range(3))}) == 6


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation_is_applied_after_each_hidden_layer(activation):
    network = MLP(3, (5,), 2, activation=activation)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    hidden = ACTIVATIONS[activation]()(network.linears[0](x))
    assert torch.equal(network(x), network.linears[1](hidden))


def test_the_output_activation_bounds_the_output():
    x = 100 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    outputs = MLP(3, (4,), 1, output_activation="sigmoid")(x)
    assert 0 <= outputs.min() < outputs.max() <= 1


def test_layers_follow_the_order_linear_norm_activation_dropout():
    network = MLP(3, (4,), 2, batch_norm=True, activation="tanh", dropout=0.1)
    assert [type(layer).__name__ for layer in network.layers] == [
        "Linear",
        "BatchNorm1d",
        "Tanh",
        "SeededDropout",
        "Linear",
    ]


def test_inputs_of_any_shape_are_flattened():
    network, images = MLP(12, (5,), 3), torch.rand(6, 1, 3, 4)
    assert torch.equal(network(images), network(images.reshape(6, 12)))


def test_the_network_can_be_exported_for_any_batch_size():
    network = MLP(4, (8,), 3, dropout=0.5, batch_norm=True, activation="gelu").eval()
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(network, (torch.rand(5, 4),), dynamic_shapes=({0: batch},))
    x = torch.rand(17, 4)
    assert torch.allclose(program.module()(x), network(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"activation": "rellu"},
            "model.activation: 'rellu' is unknown; did you mean 'relu'\\? choices: linear, ",
        ),
        ({"activation": "xyz"}, "model.activation: 'xyz' is unknown; use one of linear, relu, "),
        ({"output_activation": "sigmod"}, "model.output_activation: .* did you mean 'sigmoid'"),
        ({"init": "kaiming_norm"}, "model.init: .* did you mean 'kaiming_normal'"),
        ({"dropout": 1.0}, "model.dropout: 1.0 is not in 0 <= p < 1"),
        ({"dropout": -0.1}, "model.dropout: -0.1"),
        ({"seed": -1}, "model.seed: -1 is negative"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_key(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        MLP(2, (3,), 1, **options)
    assert "\n" not in str(caught.value)


def test_a_batch_of_one_sample_cannot_be_normalized():
    network = MLP(2, (3,), 1, batch_norm=True)
    with pytest.raises(ConfigError, match=r"model\.batch_norm: a batch of one sample .* data\.batch_size"):
        network(torch.rand(1, 2))
    assert network.eval()(torch.rand(1, 2)).shape == (1, 1)
