"""The shipped models: linear and logistic regression, and multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import ListConfig

from besom.data.dataset import DataSpec, Task
from besom.errors import ConfigError
from besom.models.module import MakeOptimizer, MakeScheduler, SupervisedModule
from besom.models.network import MLP


class _LinearModel(SupervisedModule):
    """A linear layer; a subclass says for which task."""

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
        self._check_task(spec)
        super().__init__(
            MLP(spec.in_features, (), spec.out_features, init=init, seed=seed),
            spec=spec,
            optimizer=optimizer,
            scheduler=scheduler,
            monitor=monitor,
            gradient_clip_norm=gradient_clip_norm,
        )

    def _check_task(self, spec: DataSpec) -> None:
        raise NotImplementedError


class LinearRegression(_LinearModel):
    """Linear regression, y = w x + b, by gradient descent on the squared error.

    Raises ConfigError if the data has classes instead of a number to predict.
    """

    def _check_task(self, spec: DataSpec) -> None:
        _require_number(self, spec, instead="logistic_regression")


class LogisticRegression(_LinearModel):
    """Logistic regression by gradient descent on the cross-entropy: sigmoid for two classes, else softmax.

    Raises ConfigError if the data has a number to predict instead of classes.
    """

    def _check_task(self, spec: DataSpec) -> None:
        _require_classes(self, spec, instead="linear_regression")


class _MLPModel(SupervisedModule):
    """An MLP of `hidden_sizes`, or else of `depth` hidden layers of `width` units; a subclass says for which task.

    `output_activation` bounds the prediction of a number (sigmoid: 0..1). `besom.models.MLP` describes the others.
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
        self._check_task(spec)
        if output_activation != "linear" and spec.task is not Task.REGRESSION:
            raise ConfigError(
                f"model.output_activation: {output_activation} is for predicting a number, and data '{spec.name}' has "
                f"{len(spec.classes)} classes; take the key out"
            )
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

    def _check_task(self, spec: DataSpec) -> None:
        raise NotImplementedError


class MLPClassifier(_MLPModel):
    """An MLP classifier for two or more classes: `hidden_sizes`, or else `depth` hidden layers of `width` units each.

    `besom.models.MLP` describes the other options. Depth 0 is logistic regression.

    Raises ConfigError for an invalid size, or if the data has no classes.
    """

    def _check_task(self, spec: DataSpec) -> None:
        _require_classes(self, spec, instead="mlp_regressor")


class MLPRegressor(_MLPModel):
    """An MLP regressor: like MLPClassifier, and `output_activation` bounds the prediction (sigmoid: 0..1).

    Raises ConfigError for an invalid size, or if the data has classes.
    """

    def _check_task(self, spec: DataSpec) -> None:
        _require_number(self, spec, instead="mlp_classifier")


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


def _require_number(model: SupervisedModule, spec: DataSpec, *, instead: str) -> None:
    """Raise ConfigError, recommending `model=instead`, unless the task is regression."""
    if spec.task is not Task.REGRESSION:
        raise ConfigError(
            f"model: {type(model).__name__} predicts a number, but data '{spec.name}' has {len(spec.classes)} classes; "
            f"use model={instead}"
        )


def _require_classes(model: SupervisedModule, spec: DataSpec, *, instead: str) -> None:
    """Raise ConfigError, recommending `model=instead`, unless the task is classification."""
    if spec.task is Task.REGRESSION:
        raise ConfigError(
            f"model: {type(model).__name__} predicts a class, but data '{spec.name}' is a regression; "
            f"use model={instead}"
        )
