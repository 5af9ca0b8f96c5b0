from __future__ import annotations

import inspect
from dataclasses import fields
from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.optim import SGD, Adam

from besom.config.schema import Linear, Mlp, MlpRegressor
from besom.data import DataSpec, Task
from besom.errors import ConfigError
from besom.models import LinearRegression, LogisticRegression, MLPClassifier, MLPRegressor
from besom.models.mlp import hidden_layers

FAST = partial(Adam, lr=0.05)


def spec(task, classes=()):
    outputs = len(classes) if task is Task.MULTICLASS else 1
    return DataSpec(name="d", task=task, in_features=2, out_features=outputs, classes=tuple(classes))


NUMBER, TWO, TEN = spec(Task.REGRESSION), spec(Task.BINARY, "ab"), spec(Task.MULTICLASS, "0123456789")


def test_linear_regression_finds_the_coefficients(problem, fit):
    data = problem(Task.REGRESSION)
    module = LinearRegression(spec=data.spec, optimizer=FAST)
    found = fit(module, data.chunks(), data.batches(), max_epochs=30).metrics
    (layer,) = module.network.linears
    assert layer.weight[0].tolist() == pytest.approx([3, -2], abs=0.01)
    assert layer.bias.item() == pytest.approx(1, abs=0.01)
    assert found["val/loss"] < 1e-3
    assert found["val/r2"] > 0.999


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_logistic_regression_learns_classes(task, problem, fit):
    data = problem(task)
    module = LogisticRegression(spec=data.spec, optimizer=FAST)
    found = fit(module, data.chunks(), data.batches(), max_epochs=15).metrics
    assert found["val/acc"] > 0.95
    assert found["val/auroc" if task is Task.BINARY else "val/f1"] > 0.95


@pytest.mark.parametrize("options", [{}, {"batch_norm": True}, {"dropout": 0.1}, {"activation": "tanh"}])
def test_mlp_classifier_learns_exclusive_or(options, fit, problem):
    data = problem(Task.BINARY)
    y = ((data.x[:, 0] > 0) ^ (data.x[:, 1] > 0)).long()
    loader = [(data.x, y)] * 8
    module = MLPClassifier(spec=data.spec, optimizer=FAST, hidden_sizes=[16, 16], **options)
    found = fit(module, torch.utils.data.DataLoader(loader, batch_size=None), max_epochs=20).metrics
    assert found["train/acc"] > 0.9


def test_mlp_regressor_learns_a_curve_in_its_range(fit):
    x = torch.linspace(-1, 1, 64)[:, None]
    curve = DataSpec(name="curve", task=Task.REGRESSION, in_features=1, out_features=1, classes=())
    module = MLPRegressor(spec=curve, optimizer=FAST, width=16, depth=1, output_activation="sigmoid")
    loader = torch.utils.data.DataLoader([(x, x[:, 0] ** 2)] * 20, batch_size=None)
    assert fit(module, loader, max_epochs=15).metrics["train/r2"] > 0.9
    assert 0 <= module.predict(100 * x).min() <= module.predict(100 * x).max() <= 1


def test_depth_zero_is_the_linear_model():
    deep, flat = (
        MLPClassifier(spec=TEN, optimizer=FAST, depth=0),
        LogisticRegression(spec=TEN, optimizer=FAST),
    )
    x = torch.rand(3, 2)
    assert torch.equal(deep(x), flat(x))


def test_hidden_sizes_win_over_width_and_depth():
    assert hidden_layers(None, width=7, depth=3) == (7, 7, 7)
    assert hidden_layers([5, 4], width=7, depth=3) == (5, 4)
    assert hidden_layers([], width=7, depth=3) == ()
    assert hidden_layers(OmegaConf.create([5, 4]), width=7, depth=3) == (5, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "model.width: 0 is below 1"),
        ({"depth": -1}, "model.depth: -1 is below 0"),
        ({"hidden_sizes": [4, 0]}, "model.hidden_sizes: 0 is not a size"),
        ({"hidden_sizes": [4.5]}, "model.hidden_sizes: 4.5 is not a size"),
        ({"hidden_sizes": 128}, "model.hidden_sizes: 128 is not a list; write \\[128,64\\]"),
        ({"hidden_sizes": "128,64"}, "model.hidden_sizes: '128,64' is not a list"),
        ({"dropout": 1}, "model.dropout: 1 is not in"),
        ({"gradient_clip_norm": 0}, "model.gradient_clip_norm: 0 is not above 0; use null"),
        (
            {"output_activation": "sigmoid"},
            "model.output_activation: sigmoid is for predicting a number, and data 'd' has 10 classes",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_key(options, message):
    with pytest.raises(ConfigError, match=message):
        MLPClassifier(spec=TEN, optimizer=FAST, **options)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (MLPRegressor, TEN, "predicts a number, but data 'd' has 10 classes; use model=mlp_classifier"),
        (
            LinearRegression,
            TWO,
            "predicts a number, but data 'd' has 2 classes; use model=logistic_regression",
        ),
        (MLPClassifier, NUMBER, "predicts a class, but data 'd' is a regression; use model=mlp_regressor"),
        (
            LogisticRegression,
            NUMBER,
            "predicts a class, but data 'd' is a regression; use model=linear_regression",
        ),
    ],
)
def test_a_model_that_does_not_fit_the_data_names_one_that_does(model, data, message):
    with pytest.raises(ConfigError) as caught:
        model(spec=data, optimizer=FAST)
    assert str(caught.value) == f"model: {model.__name__} {message}"


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("LinearRegression", NUMBER),
        ("LogisticRegression", TWO),
        ("MLPClassifier", TEN),
        ("MLPRegressor", NUMBER),
    ],
)
def test_hydra_builds_each_model_with_its_optimizer_and_scheduler(model, data):
    build = instantiate({"_target_": f"besom.models.{model}", "_partial_": True, "seed": 3}, _convert_="all")
    parts = {
        "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.25},
        "scheduler": {"_target_": "torch.optim.lr_scheduler.StepLR", "_partial_": True, "step_size": 1},
    }
    module = build(spec=data, **{name: instantiate(part) for name, part in parts.items()})
    made = module.configure_optimizers()
    assert module.spec is data
    assert isinstance(made["optimizer"], SGD)
    assert made["lr_scheduler"].get_last_lr() == [0.25]


@pytest.mark.parametrize(
    ("schema", "models"),
    [
        (Linear, [LinearRegression, LogisticRegression]),
        (Mlp, [MLPClassifier]),
        (MlpRegressor, [MLPRegressor]),
    ],
)
def test_the_schema_has_the_keys_and_defaults_of_the_models(schema, models):
    keys = {key.name: key.default for key in fields(schema) if key.name not in ("_target_", "seed")}
    for model in models:
        taken = inspect.signature(model).parameters
        assert {key: taken[key].default for key in keys} == keys
        assert taken.keys() - keys.keys() <= {"spec", "optimizer", "scheduler", "seed", "output_activation"}
