from __future__ import annotations

from collections.abc import Callable

import pytest

from besom.sweep.dry_run.learning import Learning
from besom.sweep.spec import SweepSpec

Make = Callable[..., SweepSpec]

HYPERBAND = {"_target_": "optuna.pruners.HyperbandPruner", "min_resource": 1, "max_resource": "auto"}


def chosen(spec: SweepSpec, epochs: int | None = None) -> tuple[int, int]:
    found = Learning.of(spec, epochs)
    assert found is not None
    assert (found.warning is None) == (2 * found.chosen >= found.trials)
    return found.chosen, found.brackets


def test_the_model_chooses_what_comes_after_the_startup_trials(make_spec: Make):
    assert chosen(make_spec(n_trials=30)) == (20, 1)
    assert chosen(make_spec(n_trials=8)) == (0, 1)
    assert chosen(make_spec(n_trials=30, sampler={"n_startup_trials": 25})) == (5, 1)
    assert chosen(make_spec(n_trials=60, sampler={"_target_": "optuna.samplers.NSGAIISampler"})) == (10, 1)


def test_under_hyperband_each_bracket_has_startup_trials_of_its_own(make_spec: Make):
    # As observed in these sweeps: the study's name and the trial's number determine the bracket.
    assert chosen(make_spec(study_name="mnist_best", n_trials=12, pruner=HYPERBAND), epochs=20) == (0, 3)
    assert chosen(make_spec(study_name="fashion_best", n_trials=24, pruner=HYPERBAND), epochs=30) == (4, 4)
    assert chosen(make_spec(n_trials=24, pruner={**HYPERBAND, "max_resource": 2}), epochs=30) == (14, 1)


def test_trials_that_are_enqueued_are_learned_from_and_not_chosen(make_spec: Make):
    known = ({"optimizer.lr": 0.1},) * 12
    assert chosen(make_spec(n_trials=30, enqueue=known)) == (18, 1)
    assert chosen(make_spec(n_trials=30, enqueue=known[:3])) == (20, 1)


@pytest.mark.parametrize("name", ["RandomSampler", "GridSampler", "QMCSampler", "BruteForceSampler", "CmaEsSampler"])
def test_nothing_is_said_of_a_sampler_without_startup_trials(make_spec: Make, name: str):
    assert Learning.of(make_spec(sampler={"_target_": f"optuna.samplers.{name}"}), None) is None


def test_nothing_is_said_of_a_sweep_without_a_number_of_trials(make_spec: Make):
    assert Learning.of(make_spec(n_trials=None), None) is None


def test_a_warning_has_the_numbers_and_the_remedy(make_spec: Make):
    few = Learning.of(make_spec(study_name="fashion_best", n_trials=24, pruner=HYPERBAND), 30)
    assert few is not None
    assert few.warning == (
        "hydra.sweeper.n_trials: TPESampler chooses 4 of the 24 trials: it draws the first 10 in each of Hyperband's 4 "
        "brackets, which learn apart, at random; raise n_trials, lower hydra.sweeper.sampler.n_startup_trials, or take "
        "another pruner"
    )
