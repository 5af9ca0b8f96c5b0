"""The search spaces of sweeps/digits.yaml and, for both sets of images, sweeps/fashion_mnist.yaml, as Optuna asks them.

A parameter with different ranges in two branches has a name for each: `lr_sgd` and `lr_adam`. A trial has only the
parameters of its own choices.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

DATA = ("digits", "mnist", "fashion_mnist")
NAMES = (
    "model", "optimizer", "lr", "lr_sgd", "lr_adam", "momentum", "scheduler",
    "depth", "width", "activation", "dropout",
)  # fmt: skip


def suggest(trial: Any, data: str) -> dict[str, Any]:
    """Return the parameters of an Optuna trial, or of anything that suggests as one does."""
    return _digits(trial) if data == "digits" else _images(trial)


class RandomTrial:
    """Suggests as an Optuna trial does, from a generator."""

    def __init__(self, generator: random.Random) -> None:
        self._generator = generator

    def suggest_categorical(self, _: str, choices: Sequence[Any]) -> Any:
        return self._generator.choice(choices)

    def suggest_int(self, _: str, low: int, high: int) -> int:
        return self._generator.randint(low, high)

    def suggest_float(self, _: str, low: float, high: float, *, log: bool = False) -> float:
        if log:
            return math.exp(self._generator.uniform(math.log(low), math.log(high)))
        return self._generator.uniform(low, high)


def draw(data: str, trials: int, seed: int) -> list[dict[str, Any]]:
    """Draw the parameters of some trials."""
    generator = random.Random(seed)
    return [suggest(RandomTrial(generator), data) for _ in range(trials)]


def configure(config: Any, trial: Any) -> None:
    """Suggest as hydra-optuna-sweeper's `custom_search_space` wants it done."""
    settings = config.settings
    if settings.same:  # as `study.enqueue_trial` would have it, which the sweeper does not offer
        trial.set_system_attr("fixed_params", draw(settings.data, settings.trials, settings.seed)[trial.number])
    suggest(trial, settings.data)


def learning_rate(parameters: Mapping[str, Any]) -> float:
    """Return the learning rate, whatever its branch calls it."""
    return parameters["lr"] if "lr" in parameters else parameters[f"lr_{parameters['optimizer']}"]


def _digits(trial: Any) -> dict[str, Any]:
    parameters = {
        "model": trial.suggest_categorical("model", ["logistic_regression", "mlp_classifier"]),
        "optimizer": trial.suggest_categorical("optimizer", ["sgd", "adam", "rmsprop"]),
        "lr": trial.suggest_float("lr", 1e-3, 1e-1, log=True),
    }
    if parameters["model"] == "mlp_classifier":
        parameters |= {
            "depth": trial.suggest_int("depth", 1, 3),
            "width": trial.suggest_categorical("width", [32, 64, 128, 256]),
            "activation": trial.suggest_categorical("activation", ["relu", "tanh", "gelu"]),
        }
    return parameters


def _images(trial: Any) -> dict[str, Any]:
    parameters = {
        "model": trial.suggest_categorical("model", ["logistic_regression", "mlp_classifier"]),
        "optimizer": trial.suggest_categorical("optimizer", ["sgd", "adam"]),
        "scheduler": trial.suggest_categorical("scheduler", ["none", "cosine"]),
    }
    if parameters["optimizer"] == "sgd":
        parameters |= {
            "lr_sgd": trial.suggest_float("lr_sgd", 1e-2, 3e-1, log=True),
            "momentum": trial.suggest_categorical("momentum", [0.0, 0.9]),
        }
    else:
        parameters["lr_adam"] = trial.suggest_float("lr_adam", 2e-4, 5e-3, log=True)
    if parameters["model"] == "mlp_classifier":
        parameters |= {
            "depth": trial.suggest_int("depth", 1, 3),
            "width": trial.suggest_categorical("width", [128, 256, 512]),
            "activation": trial.suggest_categorical("activation", ["relu", "gelu", "tanh"]),
            "dropout": trial.suggest_categorical("dropout", [0.0, 0.1, 0.2]),
        }
    return parameters
