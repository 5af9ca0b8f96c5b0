from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from besom.config.targets.model_keys import keys_for_model


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["model.width=8", "optimizer.lr=0.1", "++optimizer.eps=1", "optimizer=sgd"],
         ("optimizer.lr", "optimizer.eps", "optimizer")),
        (["optimizer.lr", "scheduler=cosine"], ("optimizer.lr", "scheduler")),
        (["scheduler=none", "~optimizer"], ()),
        (["optimizer.lr=0.1", "scheduler=cosine", "+model.lr=${optimizer.lr}"], ("scheduler",)),
    ],
)  # fmt: skip
def test_keys_that_wait_for_the_model_are_those_of_its_groups_to_which_nothing_else_refers(
    compose: Callable[..., DictConfig], overrides: list[str], keys: tuple[str, ...]
):
    composed = compose(*[override for override in overrides if "=" in override and override[:2] != "++"])
    assert keys_for_model(overrides, composed) == keys
