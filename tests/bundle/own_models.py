"""A user's own models: networks that train by Besom's loop, and others that must not be stacked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from besom.models import SupervisedModule


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int, norm: nn.Module, dropout: float) -> None:
        super().__init__()
        self.norm = norm
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.outer(F.gelu(self.inner(self.norm(x)))))


class Residual(SupervisedModule):
    """A residual MLP."""

    def __init__(
        self, *, spec, optimizer, scheduler=None, width=16, depth=2, dropout=0.0, batch_norm=False, slope=0.01, **keys
    ):
        norm = nn.BatchNorm1d if batch_norm else nn.LayerNorm
        blocks = [Block(width, norm(width), dropout) for _ in range(depth)]
        out = [nn.LeakyReLU(slope), nn.Linear(width, spec.out_features)]
        network = nn.Sequential(nn.Linear(spec.in_features, width), *blocks, *out)
        super().__init__(network, spec=spec, optimizer=optimizer, scheduler=scheduler, **keys)


class Images(nn.Module):
    """A small convolutional network for square images of one channel.

    A kink in its activation or pooling would magnify the rounding of whatever comes to lie on it.
    """

    def __init__(self, channels: int, pixels: int, classes: int, *, kinks: bool) -> None:
        super().__init__()
        self.side = round(pixels**0.5)
        act, pool = (nn.ReLU, nn.MaxPool2d) if kinks else (nn.GELU, nn.AvgPool2d)
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), act(), pool(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1), act(), pool(2),
        )  # fmt: skip
        self.head = nn.Linear(2 * channels * (self.side // 4) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.convolutions(x.view(-1, 1, self.side, self.side)).flatten(1))


class ConvNet(SupervisedModule):
    def __init__(self, *, spec, optimizer, scheduler=None, channels=4, kinks=False, **keys):
        network = Images(channels, spec.in_features, spec.out_features, kinks=kinks)
        super().__init__(network, spec=spec, optimizer=optimizer, scheduler=scheduler, **keys)


class Given(SupervisedModule):
    """A network of one layer after another."""

    def __init__(self, *, spec, optimizer, scheduler=None, **keys):
        network = nn.Sequential(*self.layers(spec.in_features), nn.Linear(8, spec.out_features))
        super().__init__(network, spec=spec, optimizer=optimizer, scheduler=scheduler, **keys)

    def layers(self, features: int) -> list[nn.Module]:
        return [nn.Linear(features, 8), nn.Tanh()]


class RandomFeatures(nn.Module):
    """Random features that are drawn and never trained."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.randn(features, 8) / features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cos(x @ self.matrix)


class Fourier(Given):
    def layers(self, features: int) -> list[nn.Module]:
        return [RandomFeatures(features), nn.Linear(8, 8)]


# Each of these trains alone.


class OwnStep(Given):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        with torch.no_grad():
            self.network[0].weight.clamp_(-0.1, 0.1)


class OwnForward(Given):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.clamp(-1, 1))


class OwnLoss(Given):
    def __init__(self, *, spec, optimizer):
        super().__init__(spec=spec, optimizer=optimizer)
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.1)


class OwnOptimizer(Given):
    def __init__(self, *, spec):
        super().__init__(spec=spec, optimizer=lambda parameters: torch.optim.NAdam(parameters, lr=0.01))


class Hooked(Given):
    def __init__(self, *, spec, optimizer):
        super().__init__(spec=spec, optimizer=optimizer)
        self.network[0].register_forward_hook(lambda module, inputs, outputs: outputs / 2)


class Frozen(Given):
    def layers(self, features: int) -> list[nn.Module]:
        return [nn.Linear(features, 8).requires_grad_(False), nn.Tanh()]


class Spare(Given):
    """A parameter that nothing depends on."""

    def layers(self, features: int) -> list[nn.Module]:
        layer = nn.Linear(features, 8)
        layer.register_parameter("spare", nn.Parameter(torch.ones(3)))
        return [layer, nn.Tanh()]


class Chance(nn.Module):
    """Noise from a generator that vmap does not control."""

    def forward(self, x: Tensor) -> Tensor:
        return x * float(np.random.uniform(0.9, 1.1)) if self.training else x


class Noisy(Given):
    def layers(self, features: int) -> list[nn.Module]:
        return [*super().layers(features), Chance()]


class Warmup(nn.Module):
    """Counts its passes, and depends on the count."""

    passes = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
        return x * min(1.0, self.passes / 10)


class Warming(Given):
    def layers(self, features: int) -> list[nn.Module]:
        return [*super().layers(features), Warmup()]


class Gate(nn.Module):
    """A branch that depends on the numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else 2 * x


class Gated(Given):
    def layers(self, features: int) -> list[nn.Module]:
        return [*super().layers(features), Gate()]
