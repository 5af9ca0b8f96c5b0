from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch.nn import functional as F

from besom.config.objectives import metric_names
from besom.data import Task
from besom.errors import TrialFailed
from besom.models.scoring import LOSSES, finite, probabilities, scores

seeds = st.integers(0, 10_000)
rows = st.integers(2, 60)
scales = st.sampled_from([1e-3, 1.0, 50.0])
few = settings(max_examples=40, deadline=None)


def draw(seed):
    return torch.Generator().manual_seed(seed)


@few
@given(seeds, rows, scales, st.integers(2, 12))
def test_multiclass_metrics_equal_sklearns(seed, n, scale, classes):
    logits = scale * torch.randn(n, classes, generator=draw(seed))
    targets = torch.randint(0, classes, (n,), generator=draw(seed + 1))
    found = scores(Task.MULTICLASS, logits, targets)
    predicted = logits.argmax(1)
    assert found["acc"].item() == pytest.approx(sk.accuracy_score(targets, predicted), abs=1e-6)
    assert found["f1"].item() == pytest.approx(sk.f1_score(targets, predicted, average="macro"), abs=1e-6)
    loss = sk.log_loss(targets, logits.double().softmax(1), labels=range(classes))
    if scale < 50:  # sklearn clips probabilities
        assert LOSSES[Task.MULTICLASS](logits, targets).item() == pytest.approx(loss, rel=1e-5)


@few
@given(seeds, rows, scales, st.booleans())
def test_binary_metrics_equal_sklearns(seed, n, scale, ties):
    logits = scale * torch.randn(n, 1, generator=draw(seed))
    logits = logits.round() if ties else logits
    targets = torch.randint(0, 2, (n,), generator=draw(seed + 1))
    found = scores(Task.BINARY, logits, targets)
    assert found["acc"].item() == pytest.approx(sk.accuracy_score(targets, logits[:, 0] > 0), abs=1e-6)
    if 0 < targets.sum() < n:
        assert found["auroc"].item() == pytest.approx(sk.roc_auc_score(targets, logits[:, 0]), abs=1e-6)
    else:
        assert "auroc" not in found


@few
@given(seeds, rows, st.sampled_from([1e-4, 1.0, 1e4]), st.sampled_from([0.0, 10.0]))
def test_regression_metrics_equal_sklearns(seed, n, scale, offset):
    values = scale * (torch.randn(n, 1, generator=draw(seed)) + offset)
    targets = scale * (torch.randn(n, generator=draw(seed + 1)) + offset)
    found = scores(Task.REGRESSION, values, targets)
    pair = targets.double().numpy(), values[:, 0].double().numpy()
    assert found["mae"].item() == pytest.approx(sk.mean_absolute_error(*pair), rel=1e-4)
    assert found["r2"].item() == pytest.approx(sk.r2_score(*pair), rel=1e-3, abs=1e-3)
    loss = LOSSES[Task.REGRESSION](values, targets).item()
    assert loss == pytest.approx(sk.mean_squared_error(*pair), rel=1e-4)


@pytest.mark.parametrize("task", Task)
def test_the_scores_are_those_that_are_announced(task):
    outputs = torch.randn(20, 3 if task is Task.MULTICLASS else 1, generator=draw(0))
    assert ("loss", *scores(task, outputs, torch.arange(20) % 2)) == metric_names(task)


def test_auroc_tells_large_logits_apart():
    logits = torch.tensor([[90.0], [80.0], [70.0], [60.0]])  # the sigmoid of each is 1 in float32
    assert scores(Task.BINARY, logits, torch.tensor([1, 1, 0, 0]))["auroc"] == 1


def test_small_positive_logits_are_not_taken_for_probabilities():
    logits = torch.tensor([[0.1], [0.2], [0.3]])
    assert scores(Task.BINARY, logits, torch.tensor([1, 1, 1]))["acc"] == 1


def test_a_single_class_has_no_auroc():
    assert set(scores(Task.BINARY, torch.zeros(3, 1), torch.ones(3))) == {"acc"}


def test_one_sample_has_no_r2():
    assert set(scores(Task.REGRESSION, torch.zeros(1, 1), torch.ones(1))) == {"mae"}


def test_equal_targets_have_no_r2():
    assert set(scores(Task.REGRESSION, torch.zeros(9, 1), torch.full((9,), 0.1))) == {"mae"}


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_targets_may_come_flat_or_as_a_column(shape):
    outputs, targets = torch.randn(6, 1, generator=draw(0)), torch.tensor([0.0, 1, 1, 0, 1, 0]).reshape(shape)
    expected = F.mse_loss(outputs[:, 0], targets.reshape(-1))
    assert LOSSES[Task.REGRESSION](outputs, targets) == expected
    assert scores(Task.BINARY, outputs, targets)["acc"] <= 1


def test_probabilities_are_what_the_task_says():
    outputs = torch.tensor([[0.0], [2.0]])
    assert probabilities(Task.REGRESSION, outputs).tolist() == [0, 2]
    assert probabilities(Task.BINARY, outputs)[0] == 0.5
    assert probabilities(Task.MULTICLASS, torch.zeros(2, 4)).tolist() == [[0.25] * 4] * 2


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_fails_the_trial(value):
    with pytest.raises(TrialFailed, match=f"loss became {value} in epoch 3; lower optimizer.lr"):
        finite(torch.tensor(value), "loss became {} in epoch 3")
    assert finite(torch.tensor(0.5), "") == 0.5
