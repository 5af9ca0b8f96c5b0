"""The linear models: one layer from the features to the outputs, nothing hidden."""

from __future__ import annotations

from besom.data.dataset import DataSpec
from besom.models.module import MakeOptimizer, MakeScheduler, SupervisedModule
from besom.models.network import MLP
from besom.models.tasks import require_classes, require_number


class LinearRegression(SupervisedModule):
    """y = w x + b by gradient descent on the squared error.

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
