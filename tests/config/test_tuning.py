from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from besom.config.checks import check
from besom.config.tuning import check_sampled, with_tuned
from besom.errors import ConfigError

Compose = Callable[..., DictConfig]


@pytest.mark.parametrize("tune", ["none", "lr", "batch_size"])
def test_each_config_of_the_group_passes(compose: Compose, tune: str):
    check(compose(f"tune={tune}"))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("tune=lr", "tune.method=lr_fined"), "tune.method: 'lr_fined' is unknown; did you mean lr_find?"),
        (("tune=lr", "evaluation.folds=3"), "tune: with evaluation.folds, each fold would have its own value; tune "),
        (("tune=lr", "+trainer.fast_dev_run=true"), "tune: trainer.fast_dev_run ends before anything is found; leave "),
        (("tune=batch_size", "trainer.devices=2"), "tune: it works on one device, and a trial has 2; tune on one"),
    ],
)
def test_what_cannot_be_tuned_is_refused(compose: Compose, overrides: tuple[str, ...], line: str):
    with pytest.raises(ConfigError) as refused:
        check(compose(*overrides))
    assert str(refused.value).startswith(line)


@pytest.mark.parametrize(
    ("tune", "sampled"),
    [
        ({}, ["optimizer.lr"]),
        ({"method": "lr_find"}, ["optimizer.weight_decay"]),
        ({"method": "lr_find", "key": "model.rate"}, ["optimizer.lr"]),
    ],
)
def test_a_sweep_tunes_what_it_does_not_sample(tune: dict[str, str], sampled: list[str]):
    check_sampled(tune, sampled)


@pytest.mark.parametrize("sampled", ["model.rate", "+model.rate"])
def test_a_sweep_does_not_tune_what_it_samples(sampled: str):
    with pytest.raises(ConfigError, match=r"the sweep samples \+?model\.rate, which tune=lr would replace"):
        check_sampled({"method": "lr_find", "key": "model.rate"}, ["model.width", sampled])


def test_a_value_that_was_found_stands_at_its_key_and_is_not_searched_again():
    config = {"model": {"optimizer": {"lr": 1.0, "eps": 0.1}}, "seed": 3, "tune": {"method": "lr_find"}}
    tuned = with_tuned(config, "model.optimizer.lr", 0.25)
    assert tuned == {"model": {"optimizer": {"lr": 0.25, "eps": 0.1}}, "seed": 3, "tune": {}}
    assert config["tune"]
