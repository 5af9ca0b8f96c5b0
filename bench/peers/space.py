"""The search spaces of sweeps/digits.yaml and sweeps/fashion_mnist.yaml, as Optuna asks them of a trial.

A parameter that two branches search in different ranges has a name for each of them: `lr_sgd` and `lr_adam`.
Only what exists for a trial's choices is among its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DATA = ("digits", "mnist", "fashion_mnist")
NAMES = (
    "model", "optimizer", "lr", "lr_sgd", "lr_adam", "momentum", "scheduler",
    "depth", "width", "activation", "dropout",
)  # fmt: skip


def suggest(trial: Any, data: str) -> dict[str, Any]:
    """Return the parameters of an Optuna trial, or of anything that suggests as one does."""
    return _digits(trial) if data == "digits" else _images(trial)


def configure(config: Any, trial: Any) -> None:
    """Suggest as hydra-optuna-sweeper's `custom_search_space` wants it done."""
    suggest(trial, config.settings.data)


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
