"""What a pruner counts: epochs, steps or validations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from besom.config.units import Unit, axis_of, limit_of
from besom.errors import ConfigError
from besom.sweep.fidelity import PrunerCount, read_fidelity, with_resources
from besom.workers.messages import Moment

REPORTS = [
    (Moment(0, 0), 9.0),
    (Moment(1, 40, in_epoch=True), 5.0),
    (Moment(1, 80, in_epoch=True), 4.0),
    (Moment(1, 100), None),  # the end of the epoch, without a validation
    (Moment(2, 140, in_epoch=True), None),  # a validation without the metric
    (Moment(2, 180, in_epoch=True), 3.0),
    (Moment(2, 200), 2.0),
    (Moment(3, 240, in_epoch=True), float("nan")),
    (Moment(3, 300), None),
]
HYPERBAND, HALVING = "optuna.pruners.HyperbandPruner", "optuna.pruners.SuccessiveHalvingPruner"


@pytest.mark.parametrize(
    ("unit", "counted"),
    [
        (Unit.EPOCH, [(1, 4.0), (2, 2.0)]),
        (Unit.STEP, [(40, 5.0), (80, 4.0), (180, 3.0), (200, 2.0)]),
        (Unit.VALIDATION, [(1, 5.0), (2, 4.0), (3, 3.0), (4, 2.0)]),
    ],
)
def test_a_pruner_counts_the_reports_that_have_the_objective(unit: Unit, counted: list[tuple[int, float]]):
    count = PrunerCount(unit)
    assert [found for report in REPORTS if (found := count.count(*report)) is not None] == counted


def test_the_steps_of_another_app_may_begin_at_0_and_a_number_counts_once():
    count = PrunerCount(Unit.STEP, first=0)
    steps = [0, 0, 2, 2, 3]
    assert [count.count(Moment(0, step), 1.0) for step in steps] == [(0, 1.0), None, (2, 1.0), None, (3, 1.0)]


def test_a_fidelity_that_is_unknown_or_of_another_app_is_refused():
    assert read_fidelity("steps", "own.yaml", foreign=False) is Unit.STEP
    assert read_fidelity("epochs", "own.yaml", foreign=True) is Unit.EPOCH
    with pytest.raises(ConfigError, match=r"own\.yaml: hydra\.sweeper\.fidelity: 'step' is unknown; .*steps"):
        read_fidelity("step", "own.yaml", foreign=False)
    with pytest.raises(ConfigError, match=r"own\.yaml: hydra\.sweeper\.fidelity: .*besom\.report; leave it out"):
        read_fidelity("validations", "own.yaml", foreign=True)


@pytest.mark.parametrize(
    ("target", "trainer", "keys", "found"),
    [
        (HYPERBAND, {"val_check_interval": 50, "max_steps": 900}, {}, {"min_resource": 50, "max_resource": 900}),
        (HYPERBAND, {"val_check_interval": 50}, {}, {"min_resource": 50, "max_resource": "auto"}),
        (HYPERBAND, {"max_steps": 900}, {"min_resource": 30}, {"min_resource": 30, "max_resource": 900}),
        (HYPERBAND, {"max_steps": 9}, {"min_resource": 3, "max_resource": 5}, {"min_resource": 3, "max_resource": 5}),
        (HALVING, {"val_check_interval": 60, "accumulate_grad_batches": 4}, {}, {"min_resource": 15}),
        (HALVING, {"val_check_interval": 0.5}, {}, {"min_resource": "auto"}),
        ("optuna.pruners.MedianPruner", {"val_check_interval": 50}, {"n_warmup_steps": 7}, {"n_warmup_steps": 7}),
    ],
)
def test_by_steps_the_resources_of_a_pruner_are_those_of_the_trainer(
    target: str, trainer: Mapping[str, Any], keys: Mapping[str, Any], found: Mapping[str, Any]
):
    pruner = {"_target_": target, **keys}
    assert with_resources(pruner, {"trainer": trainer}, "own.yaml") == {"_target_": target, **found}


@pytest.mark.parametrize("sampled", [(), ("+trainer.val_check_interval",)])
def test_hyperband_by_steps_needs_to_know_when_the_first_validation_comes(sampled: tuple[str, ...]):
    trainer = {"val_check_interval": 50 if sampled else 0.5}
    with pytest.raises(ConfigError, match=r"own\.yaml: hydra\.sweeper\.pruner\.min_resource: with fidelity=steps"):
        with_resources({"_target_": HYPERBAND}, {"trainer": trainer}, "own.yaml", sampled=sampled)


@pytest.mark.parametrize(
    ("config", "axis"),
    [
        ({"trainer": {"max_epochs": 3}}, Unit.EPOCH),
        ({"trainer": {"check_val_every_n_epoch": 2, "val_check_interval": 1.0}}, Unit.EPOCH),
        ({"trainer": {"val_check_interval": 0.5}}, Unit.STEP),
        ({"trainer": {"val_check_interval": 1}}, Unit.STEP),
        ({"trainer": {"check_val_every_n_epoch": None, "val_check_interval": 5}}, Unit.STEP),
        ({"trainer": {"val_check_interval": 0.5}, "evaluation": {"folds": 3}}, Unit.FOLD),
        ({}, Unit.EPOCH),
    ],
)
def test_a_run_is_recorded_by_epoch_unless_validations_come_within_epochs(config: Mapping[str, Any], axis: Unit):
    assert axis_of(config) is axis
    assert axis_of(config, Unit.STEP) is (Unit.FOLD if axis is Unit.FOLD else Unit.STEP)


def test_how_long_a_trial_is_shows_in_its_config_unless_that_is_sampled():
    config = {"trainer": {"max_epochs": 9, "max_steps": -1, "check_val_every_n_epoch": 2}, "evaluation": {"folds": 5}}
    assert [limit_of(config, unit) for unit in Unit] == [9, None, 4, 5]
    assert limit_of(config, Unit.EPOCH, sampled=["trainer.max_epochs"]) is None
    assert limit_of(config, Unit.VALIDATION, sampled=["+trainer.val_check_interval"]) is None
