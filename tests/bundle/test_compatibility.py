from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from besom.bundle.compatibility import bundle_key
from besom.config.checks import resolved

Config = dict[str, Any]
MODELS = ("LogisticRegression", "MLPClassifier", "MLPRegressor", "LinearRegression")

BASE: Config = {
    "seed": 0,
    "objective": "val/loss",
    "direction": "minimize",
    "test": False,
    "threads": 1,
    "early_stopping": {"patience": None, "min_delta": 0.0},
    "data": {
        "_target_": "besom.data.InMemoryDataModule",
        "source": {"_target_": "besom.data.sources.digits"},
        "batch_size": 64,
        "shuffle_seed": 0,
        "split_seed": 0,
    },
    "model": {"_target_": "besom.models.MLPClassifier", "width": 8},
    "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.01},
    "scheduler": {},
    "trainer": {"_target_": "pytorch_lightning.Trainer", "accelerator": "cpu", "devices": 1, "max_epochs": 10},
    "tracking": {"enabled": True},
}


def other(path: str, value: Any) -> Config:
    """The base with another value at a dotted path."""
    config = copy.deepcopy(BASE)
    *way, last = path.split(".")
    at = config
    for name in way:
        at = at[name]
    at[last] = value
    return config


def may_share(one: Config, another: Config) -> bool:
    """Whether two trials may train in one stack."""
    return bundle_key(one) is not None and bundle_key(one) == bundle_key(another)


def ways(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


free = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 99),
        "model": st.fixed_dictionaries(
            {"_target_": st.sampled_from(MODELS).map(lambda name: f"besom.models.{name}")},
            optional={
                "hidden_sizes": st.none() | st.lists(st.integers(1, 512), max_size=4),
                "width": st.integers(1, 512),
                "depth": st.integers(0, 4),
                "activation": ways("relu", "gelu", "softplus"),
                "dropout": st.floats(0, 0.9),
                "batch_norm": st.booleans(),
                "init": ways("default", "orthogonal"),
                "seed": st.integers(0, 99),
                "monitor": ways("val/loss", "train/loss"),
                "gradient_clip_norm": st.none() | st.floats(0.1, 9),
            },
        ),
        "optimizer": st.fixed_dictionaries(
            {
                "_target_": ways("SGD", "Adam", "AdamW", "RMSprop", "Adagrad").map(lambda name: f"torch.optim.{name}"),
                "lr": st.floats(0, 1),
                "weight_decay": st.floats(0, 1),
            },
            optional={"momentum": st.floats(0, 1), "betas": st.just([0.8, 0.9]), "eps": st.floats(0, 1e-3)},
        ),
        "scheduler": ways(
            {}, {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 3}, {"_target_": "own.Rate"}
        ),
        "early_stopping": st.fixed_dictionaries({"patience": st.none() | st.integers(1, 9), "min_delta": st.just(0.1)}),
    }
)


@settings(max_examples=60, deadline=None)
@given(free, free)
def test_model_optimizer_scheduler_early_stopping_and_their_seeds_are_free_to_differ(one, another):
    assert may_share({**BASE, **one}, {**BASE, **another})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.source", {"_target_": "besom.data.sources.iris"}),
        ("data.batch_size", 32),
        ("data.batch_size", None),
        ("data.shuffle_seed", 1),
        ("data.split_seed", 1),
        ("data.val_fraction", 0.5),
        ("data.scaling", "none"),
        ("data.limit", 100),
        ("trainer.max_epochs", 11),
        ("trainer.accelerator", "gpu"),
        ("trainer.deterministic", False),
        ("threads", 2),
        ("objective", "val/acc"),
        ("direction", "maximize"),
    ],
)
def test_data_batches_their_order_epochs_objective_and_device_must_be_the_same(path, value):
    changed = other(path, value)
    assert not may_share(BASE, changed)
    assert not may_share(changed, BASE)
    assert may_share(changed, copy.deepcopy(changed)), "with its like it may"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model._target_", "besom.models.MLP"),
        ("model.output_activation", "gelu"),  # its way back needs more than the outputs
        ("optimizer._target_", "torch.optim.LBFGS"),
        ("optimizer._target_", "own.Adam"),
        ("optimizer.capturable", True),
        ("optimizer.differentiable", True),
        ("data._target_", "own.Points"),
        ("trainer._target_", "own.Trainer"),
        ("trainer.devices", 2),
        ("trainer.precision", "bf16-mixed"),
        ("trainer.max_time", "00:00:10:00"),
        ("trainer.max_steps", 10),
        ("trainer.accumulate_grad_batches", 2),
        ("trainer.callbacks", []),
        ("test", True),
        ("best_weights_in_memory_mb", 0),
        ("tune", {"method": "lr_find"}),
        ("evaluation", {"folds": 5}),
        ("objective", ["val/loss", "cost/seconds"]),
        ("objective", "cost/seconds"),
    ],
)
def test_whatever_does_not_fit_trains_by_itself(path, value):
    alone = other(path, value)
    assert bundle_key(alone) is None
    assert not may_share(alone, alone)


@pytest.mark.parametrize("target", ["own.Net", "own.besom.models.MLPClassifier"])
def test_a_users_own_models_may_share_with_those_of_their_class_unless_they_are_not_to(target):
    one, another = other("model", {"_target_": target, "width": 8}), other("model", {"_target_": target, "depth": 2})
    assert may_share(one, another)
    assert not may_share(one, other("model", {"_target_": "own.Other"}))
    assert not may_share(one, BASE)
    assert bundle_key(one, own_models=False) is None
    assert bundle_key(BASE, own_models=False) == bundle_key(BASE)


def test_the_answer_is_the_same_whatever_the_order_of_the_keys_and_changes_no_config():
    def mirrored(node: Any) -> Any:
        return {k: mirrored(node[k]) for k in reversed(node)} if isinstance(node, Mapping) else node

    before = copy.deepcopy(BASE)
    assert bundle_key(mirrored(BASE)) == bundle_key(BASE)
    assert before == BASE


def test_a_composed_trial_may_share_by_default(compose: Callable[..., Any]):
    assert bundle_key(resolved(compose())) is not None


def test_the_parent_asks_without_torch():
    script = "import sys, besom.bundle.compatibility; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
