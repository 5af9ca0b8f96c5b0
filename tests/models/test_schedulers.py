from __future__ import annotations

import math
from functools import partial

import pytest
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR

from besom.data import Task
from besom.errors import ConfigError
from besom.models import LogisticRegression


def logistic(data, **options):
    return LogisticRegression(spec=data.spec, optimizer=partial(SGD, lr=0.05, momentum=0.9), **options)


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        (None, [0.05] * 4),
        (partial(StepLR, step_size=2, gamma=0.1), [0.05, 0.05, 0.005, 0.005]),
        (partial(CosineAnnealingLR, T_max=4), [0.025 * (1 + math.cos(math.pi * e / 4)) for e in range(4)]),
    ],
)
def test_schedulers_step_once_an_epoch_and_the_rate_used_is_logged(scheduler, rates, problem, fit):
    data = problem(Task.MULTICLASS)
    run = fit(logistic(data, scheduler=scheduler), data.chunks(), data.chunks(), max_epochs=4)
    assert run.series("train/lr") == pytest.approx(rates)


@pytest.mark.parametrize("monitor", ["val/loss", "train/loss", "train/acc"])
def test_plateau_scheduler_goes_by_the_metric_of_the_epoch_that_just_ended(monitor, problem, fit):
    seen = []

    class Spy(ReduceLROnPlateau):
        def step(self, metrics, epoch=None):
            seen.append(metrics)
            super().step(metrics)

    data = problem(Task.MULTICLASS)
    module = logistic(data, scheduler=Spy, monitor=monitor)
    run = fit(module, data.chunks(), data.chunks(), max_epochs=3)
    assert seen == run.series(monitor)


def test_plateau_scheduler_lowers_the_rate(problem, fit):
    data = problem(Task.MULTICLASS)
    stubborn = partial(ReduceLROnPlateau, factor=0.5, patience=0, threshold=1e9, threshold_mode="abs")
    run = fit(logistic(data, scheduler=stubborn), data.chunks(), data.chunks(), max_epochs=4)
    assert run.series("train/lr") == pytest.approx([0.05, 0.05, 0.025, 0.0125])


def test_plateau_scheduler_waits_for_epochs_with_validation(problem, fit):
    data = problem(Task.MULTICLASS)
    options = {"max_epochs": 4, "check_val_every_n_epoch": 2}
    run = fit(logistic(data, scheduler=ReduceLROnPlateau), data.chunks(), data.chunks(), **options)
    assert run.trainer.lr_scheduler_configs[0].scheduler.last_epoch == 2


@pytest.mark.parametrize(("monitor", "validated"), [("val/los", True), ("val/loss", False), ("test/acc", True)])
def test_plateau_scheduler_without_its_metric_names_those_there_are(monitor, validated, problem, fit):
    data = problem(Task.MULTICLASS)
    module = logistic(data, scheduler=ReduceLROnPlateau, monitor=monitor)
    with pytest.raises(ConfigError, match=f"model.monitor: no metric '{monitor}' was logged; use one of .*train/acc"):
        fit(module, data.chunks(), data.chunks() if validated else None)
