from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from besom.bundle.losses import STACKED_LOSSES, mean_losses, stacked_scores
from besom.data import Task
from besom.models.scoring import LOSSES, scores

few = settings(max_examples=30, deadline=None)
tasks = st.sampled_from(list(Task))
cases = given(
    tasks,
    st.integers(1, 4),
    st.integers(1, 40),
    st.integers(3, 7),
    st.sampled_from([1e-3, 1.0, 40.0]),
    st.integers(0, 10_000),
)


def drawn(task, members, rows, classes, scale, seed):
    """Return outputs [members, out, rows] and targets [rows], as data modules provide them."""
    generator = torch.Generator().manual_seed(seed)
    out = classes if task is Task.MULTICLASS else 1
    outputs = scale * torch.randn(members, out, rows, dtype=torch.float64, generator=generator)
    if task is Task.REGRESSION:
        return outputs, torch.randn(rows, generator=generator)
    return outputs, torch.randint(classes if task is Task.MULTICLASS else 2, (rows,), generator=generator)


@few
@cases
def test_a_loss_and_its_gradient_are_those_of_each_lane_alone(task, members, rows, classes, scale, seed):
    outputs, y = drawn(task, members, rows, classes, scale, seed)
    loss = STACKED_LOSSES[task]
    grads = torch.full_like(outputs, math.nan)  # whatever was there is written over
    sums = loss(outputs.clone(), loss.targets(y), grads)
    for member, found, grad in zip(outputs, sums, grads, strict=True):
        alone = member.t().clone().requires_grad_()
        wanted = LOSSES[task](alone, y)
        wanted.backward()
        torch.testing.assert_close(found / rows, wanted.detach(), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(grad, alone.grad.t(), rtol=1e-10, atol=1e-12)


@few
@cases
def test_the_metrics_of_an_epoch_are_those_of_each_lane_alone(task, members, rows, classes, scale, seed):
    outputs, y = drawn(task, members, rows, classes, scale, seed)
    loss = STACKED_LOSSES[task]
    found = stacked_scores(task, loss.kept(outputs), loss.targets(y), classes=classes)
    for member, own, mean in zip(outputs, found, mean_losses(task, outputs, y), strict=True):
        wanted = {name: float(value) for name, value in scores(task, member.t(), y).items()}
        assert own == pytest.approx(wanted, rel=1e-6, abs=1e-7)
        assert mean == pytest.approx(float(LOSSES[task](member.t(), y)), rel=1e-10)


@pytest.mark.parametrize("task", list(Task))
def test_what_was_kept_of_a_batch_stays_when_the_next_one_is_computed(task):
    outputs, _ = drawn(task, 2, 6, 3, 1.0, 0)
    kept = STACKED_LOSSES[task].kept(outputs)
    before = kept.clone()
    outputs.normal_()
    assert torch.equal(kept, before)


@pytest.mark.parametrize("task", list(Task))
def test_a_lane_of_nans_has_a_loss_that_is_nan_and_spoils_no_other(task):
    outputs, y = drawn(task, 3, 9, 4, 1.0, 1)
    healthy = outputs.clone()
    outputs[1] = math.nan
    loss = STACKED_LOSSES[task]
    found = []
    for values in (outputs, healthy):
        grads = torch.empty_like(values)
        sums = loss(values, loss.targets(y), grads)
        measured = stacked_scores(task, loss.kept(values), loss.targets(y), classes=4)
        found.append((sums, grads, measured, mean_losses(task, values, y)))
    (sums, grads, measured, means), wanted = found
    assert sums[1].isnan()
    assert math.isnan(means[1])
    for member in (0, 2):
        assert torch.equal(sums[member], wanted[0][member])
        assert torch.equal(grads[member], wanted[1][member])
        assert (measured[member], means[member]) == (wanted[2][member], wanted[3][member])


def test_the_same_hits_make_the_same_score_so_that_the_first_of_equal_epochs_stays_the_best():
    outputs, y = drawn(Task.MULTICLASS, 1, 30, 5, 1.0, 2)
    loss = STACKED_LOSSES[Task.MULTICLASS]
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    one = stacked_scores(Task.MULTICLASS, loss.kept(outputs), y, classes=5)
    other = stacked_scores(Task.MULTICLASS, loss.kept(outputs[:, :, order]), y[order], classes=5)
    assert one == other
