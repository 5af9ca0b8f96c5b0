from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from besom.config.checks import resolved


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def _composed(compose: Callable[..., DictConfig]) -> Callable[..., dict[str, Any]]:
    # Composing takes longer than a small trial: once for each base, which tests then change.
    return cache(lambda *overrides: resolved(compose(*overrides)))


@pytest.fixture(scope="session")
def base(_composed: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A small trial on part of a data set; its last batch is short."""

    def make(data: str = "digits", *overrides: str) -> dict[str, Any]:
        kind = "mlp_regressor" if data == "diabetes" else "mlp_classifier"
        usual = (f"data={data}", f"model={kind}", "model.width=8", "model.depth=1", "data.limit=150", "threads=1")
        batches = ("data.batch_size=16", "trainer.max_epochs=4", "optimizer.lr=0.01")
        return copy.deepcopy(_composed(*usual, *batches, *overrides))

    return make
