"""The network, optimizer and scheduler of a trial's parameters, the same for every side."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import nn, optim

from bench.peers.space import learning_rate

CLASSES = 10
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def build_network(parameters: Mapping[str, Any], features: int) -> nn.Module:
    """Return logistic regression or an MLP: inputs [b, ...] of so many features each, logits [b, 10]."""
    hidden = [parameters["width"]] * parameters["depth"] if parameters["model"] == "mlp_classifier" else []
    layers: list[nn.Module] = [nn.Flatten()]
    for size, following in pairwise([features, *hidden]):
        layers += [nn.Linear(size, following), ACTIVATIONS[parameters["activation"]]()]
        if parameters.get("dropout"):
            layers.append(nn.Dropout(parameters["dropout"]))
    return nn.Sequential(*layers, nn.Linear([features, *hidden][-1], CLASSES))


def build_optimizer(parameters: Mapping[str, Any], network: nn.Module) -> optim.Optimizer:
    """Return the optimizer; what the space leaves open is as torch has it."""
    weights, lr = network.parameters(), learning_rate(parameters)
    match parameters["optimizer"]:
        case "sgd":
            return optim.SGD(weights, lr=lr, momentum=parameters.get("momentum", 0.0))
        case "adam":
            return optim.Adam(weights, lr=lr)
        case "rmsprop":
            return optim.RMSprop(weights, lr=lr)
        case name:
            raise ValueError(f"no such optimizer: {name}")


def build_scheduler(
    parameters: Mapping[str, Any], optimizer: optim.Optimizer, epochs: int
) -> optim.lr_scheduler.LRScheduler | None:
    """Return the scheduler, to be stepped once an epoch, or None."""
    if parameters.get("scheduler") != "cosine":
        return None
    return optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
