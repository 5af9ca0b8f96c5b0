"""The shipped models: linear and logistic regression, and multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import ListConfig

from besom.data.dataset import DataSpec, Task
from besom.errors import ConfigError
from besom.models.module import MakeOptimizer, MakeScheduler, SupervisedModule
from besom.models.network import MLP


class LinearRegression(SupervisedModule):
    """Linear regression, y = w x + b, by gradient descent on the squared error.

    Raises ConfigError if the data has classes instead of a number to predict.
    """

    def __init__(
        self,
        *,
        spec: DataSpec,
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None = None,
        seed: int = 0,
        init: str = "default",
        monitor: str = "val/loss",
        gradient_clip_norm: float | None = None,
    ) -> None:
        require_number(type(self).__name__, spec, instead="logistic_regression")
        super().__init__(
            MLP(spec.in_features, (), spec.out_features, init=init, seed=seed),
            spec=spec,
            optimizer=optimizer,
            scheduler=scheduler,
            monitor=monitor,
            gradient_clip_norm=gradient_clip_norm,
        )


class LogisticRegression(SupervisedModule):
    """Logistic regression by gradient descent on the cross-entropy: sigmoid for two classes, else softmax.

    Raises ConfigError if the data has a number to predict instead of classes.
    """

    def __init__(
        self,
        *,
        spec: DataSpec,
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None = None,
        seed: int = 0,
        init: str = "default",
        monitor: str = "val/loss",
        gradient_clip_norm: float | None = None,
    ) -> None:
        require_classes(type(self).__name__, spec, instead="linear_regression")
        super().__init__(
            MLP(spec.in_features, (), spec.out_features, init=init, seed=seed),
            spec=spec,
            optimizer=optimizer,
            scheduler=scheduler,
            monitor=monitor,
            gradient_clip_norm=gradient_clip_norm,
        )


class MLPClassifier(SupervisedModule):
    """An MLP classifier for two or more classes: `hidden_sizes`, or else `depth` hidden layers of `width` units each.

    `besom.models.MLP` describes the other options. Depth 0 is logistic regression.

    Raises ConfigError for an invalid size, or if the data has no classes.
    """

    def __init__(
        self,
        *,
        spec: DataSpec,
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None = None,
        seed: int = 0,
        hidden_sizes: Sequence[int] | None = None,
        width: int = 128,
        depth: int = 2,
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        init: str = "default",
        monitor: str = "val/loss",
        gradient_clip_norm: float | None = None,
    ) -> None:
        require_classes(type(self).__name__, spec, instead="mlp_regressor")
        network = MLP(
            spec.in_features,
            hidden_layers(hidden_sizes, width=width, depth=depth),
            spec.out_features,
            activation=activation,
            dropout=dropout,
            batch_norm=batch_norm,
            init=init,
            seed=seed,
        )
        super().__init__(
            network,
            spec=spec,
            optimizer=optimizer,
            scheduler=scheduler,
            monitor=monitor,
            gradient_clip_norm=gradient_clip_norm,
        )


class MLPRegressor(SupervisedModule):
    """An MLP regressor: like MLPClassifier, and `output_activation` bounds the prediction (sigmoid: 0..1).

    Raises ConfigError for an invalid size, or if the data has classes.
    """

    def __init__(
        self,
        *,
        spec: DataSpec,
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None = None,
        seed: int = 0,
        hidden_sizes: Sequence[int] | None = None,
        width: int = 128,
        depth: int = 2,
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        init: str = "default",
        output_activation: str = "linear",
        monitor: str = "val/loss",
        gradient_clip_norm: float | None = None,
    ) -> None:
        require_number(type(self).__name__, spec, instead="mlp_classifier")
        network = MLP(
            spec.in_features,
            hidden_layers(hidden_sizes, width=width, depth=depth),
            spec.out_features,
            activation=activation,
            dropout=dropout,
            batch_norm=batch_norm,
            init=init,
            output_activation=output_activation,
            seed=seed,
        )
        super().__init__(
            network,
            spec=spec,
            optimizer=optimizer,
            scheduler=scheduler,
            monitor=monitor,
            gradient_clip_norm=gradient_clip_norm,
        )


def hidden_layers(hidden_sizes: Sequence[int] | None, *, width: int, depth: int) -> tuple[int, ...]:
    """Return the sizes of the hidden layers: `hidden_sizes` when given, else `width`, `depth` times.

    Raises ConfigError naming the invalid key.
    """
    if hidden_sizes is None:
        if width < 1:
            raise ConfigError(f"model.width: {width} is below 1; a hidden layer has at least one unit")
        if depth < 0:
            raise ConfigError(f"model.depth: {depth} is below 0; 0 means no hidden layer")
        return (width,) * depth
    if not isinstance(hidden_sizes, list | tuple | ListConfig):
        raise ConfigError(f"model.hidden_sizes: {hidden_sizes!r} is not a list; write [128,64], or [] for none")
    for size in hidden_sizes:
        if not isinstance(size, int) or size < 1:
            raise ConfigError(f"model.hidden_sizes: {size!r} is not a size; each is a whole number of at least 1")
    return tuple(hidden_sizes)


def require_number(model: str, spec: DataSpec, *, instead: str) -> None:
    """Raise ConfigError, recommending `model=instead`, unless the task is regression."""
    if spec.task is not Task.REGRESSION:
        raise ConfigError(
            f"model: {model} predicts a number, but data '{spec.name}' has {len(spec.classes)} classes; "
            f"use model={instead}"
        )


def require_classes(model: str, spec: DataSpec, *, instead: str) -> None:
    """Raise ConfigError, recommending `model=instead`, unless the task is classification."""
    if spec.task is Task.REGRESSION:
        raise ConfigError(
            f"model: {model} predicts a class, but data '{spec.name}' is a regression; use model={instead}"
        )
