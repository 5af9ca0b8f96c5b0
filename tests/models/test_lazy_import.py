from __future__ import annotations

import subprocess
import sys

import pytest

import besom.models
from besom.config.objectives import metric_names
from besom.data import Task
from besom.errors import ConfigError


def test_asking_for_metric_names_does_not_import_torch():
    code = (
        "import sys; from besom.config.objectives import metric_names; "
        "print(metric_names('multiclass'), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "('loss', 'acc', 'f1') False"


def test_every_public_name_is_there():
    for name in besom.models.__all__:
        assert getattr(besom.models, name).__name__ == name
        assert name in dir(besom.models)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Transformer'"):
        _ = besom.models.Transformer


def test_every_task_has_metrics_and_the_loss_is_among_them():
    assert all("loss" in metric_names(task) for task in Task)


def test_an_unknown_task_is_refused_with_the_choices():
    with pytest.raises(ConfigError, match="task: 'ranking' is unknown; use regression, binary, multiclass"):
        metric_names("ranking")
