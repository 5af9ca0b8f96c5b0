"""The network of all shipped models: an MLP whose random draws come from its own seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import init as rules

from besom.errors import ConfigError

T = TypeVar("T")

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}


def _torch_default(layer: nn.Linear, generator: torch.Generator) -> None:
    # The same draws as nn.Linear.reset_parameters: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the weight first.
    rules.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    bound = 1 / math.sqrt(layer.in_features)
    rules.uniform_(layer.bias, -bound, bound, generator=generator)


def _with_zero_bias(rule: Callable[..., Tensor], **options: object) -> Callable[[nn.Linear, torch.Generator], None]:
    def initialize(layer: nn.Linear, generator: torch.Generator) -> None:
        rule(layer.weight, generator=generator, **options)
        rules.zeros_(layer.bias)

    return initialize


INITS: Mapping[str, Callable[[nn.Linear, torch.Generator], None]] = {
    "default": _torch_default,
    "xavier_uniform": _with_zero_bias(rules.xavier_uniform_),
    "xavier_normal": _with_zero_bias(rules.xavier_normal_),
    "kaiming_uniform": _with_zero_bias(rules.kaiming_uniform_, nonlinearity="relu"),
    "kaiming_normal": _with_zero_bias(rules.kaiming_normal_, nonlinearity="relu"),
    "orthogonal": _with_zero_bias(rules.orthogonal_),
}


class SeededDropout(nn.Module):
    """Inverted dropout with its own generator: no other random draws can shift its masks.

    In training, each element of an input of any shape is kept with probability 1 - p and then divided by
    1 - p; in evaluation, the identity. The generator is created at the first draw on the device of the
    input, from `seed`; a module that moves to another device starts its stream there anew.
    """

    def __init__(self, p: float, *, seed: int) -> None:
        super().__init__()
        self.p = p
        self.seed = seed
        self._generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return x, with dropout in training mode."""
        return x * self.draw(torch.empty_like(x)) if self.training else x

    def draw(self, mask: Tensor) -> Tensor:
        """Fill a mask with the next draws, 0 or 1 / (1 - p), and return it."""
        if self._generator is None or self._generator.device != mask.device:
            self._generator = torch.Generator(mask.device).manual_seed(self.seed)
        keep = 1 - self.p
        return mask.bernoulli_(keep, generator=self._generator).div_(keep)

    def extra_repr(self) -> str:
        """Return what `print` shows in the parentheses."""
        return f"p={self.p}, seed={self.seed}"


class MLP(nn.Module):
    """A multi-layer perceptron: for each hidden size Linear, BatchNorm1d?, activation, dropout?; then Linear.

    Takes [b, ...] and flattens it to [b, in_features]; returns [b, out_features].

    `init="default"` is PyTorch's own rule for nn.Linear, and starts from exactly the parameters that
    `torch.manual_seed(seed)` and then nn.Linear after nn.Linear would give; the other rules draw the weights
    as `torch.nn.init` does (kaiming with ReLU's gain) and set the biases to 0. Neither initialization nor
    dropout reads or moves the global generator; the i-th dropout layer's seed is `dropout_seed(seed, i)`.

    Raises ConfigError, naming the key below `model`, for a name or a number that cannot be used.
    """

    def __init__(
        self,
        in_features: int,
        hidden_sizes: Sequence[int],
        out_features: int,
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        init: str = "default",
        output_activation: str = "linear",
        seed: int = 0,
    ) -> None:
        super().__init__()
        make_activation = choose("model.activation", activation, ACTIVATIONS)
        make_output_activation = choose("model.output_activation", output_activation, ACTIVATIONS)
        initialize = choose("model.init", init, INITS)
        if not 0 <= dropout < 1:
            raise ConfigError(f"model.dropout: {dropout} is not in 0 <= p < 1; 0 drops nothing, 0.5 drops half")
        if seed < 0:
            raise ConfigError(f"model.seed: {seed} is negative; take 0 or more")
        self.in_features = in_features
        self.hidden_sizes = tuple(hidden_sizes)
        self.out_features = out_features
        self.activation = activation
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.output_activation = output_activation
        layers: list[nn.Module] = []
        fan_in = in_features
        for index, size in enumerate(self.hidden_sizes):
            layers += [_bare_linear(fan_in, size)]
            layers += [nn.BatchNorm1d(size)] if batch_norm else []
            layers += [make_activation()] if activation != "linear" else []
            layers += [SeededDropout(dropout, seed=dropout_seed(seed, index))] if dropout else []
            fan_in = size
        layers += [_bare_linear(fan_in, out_features)]
        layers += [make_output_activation()] if output_activation != "linear" else []
        self.layers = nn.Sequential(*layers)
        generator = torch.Generator().manual_seed(seed)
        for linear in self.linears:
            initialize(linear, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs [b, out_features] for inputs [b, ...] of in_features numbers each."""
        if self.batch_norm and self.training and len(x) == 1:
            raise ConfigError("model.batch_norm: a batch of one sample has no variance; change data.batch_size")
        outputs: Tensor = self.layers(x.flatten(1))
        return outputs

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers, from input to output."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]


def choose(key: str, name: str, choices: Mapping[str, T]) -> T:
    """Return `choices[name]`, or raise ConfigError with the key, the choices and the closest match."""
    if name in choices:
        return choices[name]
    close = get_close_matches(str(name), choices, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? choices: " if close else "use one of "
    raise ConfigError(f"{key}: '{name}' is unknown; {hint}{', '.join(choices)}")


def dropout_seed(seed: int, index: int) -> int:
    """Return the seed of dropout layer `index` (0-based) in a network seeded with `seed`, in 0 .. 2**32 - 1.

    numpy's SeedSequence keeps the streams apart; 32 bits, because PyTorch's CPU generator ignores the rest.
    """
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _bare_linear(in_features: int, out_features: int) -> nn.Linear:
    # nn.Linear's constructor draws from the global generator; skip_init leaves the memory uninitialized.
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, in_features, out_features)  # type: ignore[no-untyped-call]
    return layer
