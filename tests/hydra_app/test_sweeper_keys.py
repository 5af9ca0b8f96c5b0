"""The keys of `hydra.sweeper` in another app's config: each has its effect, or is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hydra.errors import ConfigCompositionException

from besom.hydra_app.app import swept_app
from besom.sweep.request import SweepRequest
from tests.hydra_app.conftest import App

MakeApp = Callable[..., App]

BESOM = "hydra_plugins.besom_sweeper.besom_sweeper.BesomSweeper"
CONFIG = "x: 1\ny: 1\n"


def request(app: App, *arguments: str) -> SweepRequest:
    return swept_app(app.config, arguments, app.context, lambda config: 0.0).request


@pytest.mark.parametrize(
    "target",
    [
        "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper",
        "hydra_plugins.hydra_optuna_sweeper.OptunaSweeper",
        "hydra_plugins.custom_optuna_sweeper.sweeper.CustomOptunaSweeper",
    ],
)
def test_target_of_hydra_optuna_sweeper_and_of_its_forks_means_besom(hydra_app: MakeApp, target: str) -> None:
    config = f"hydra: {{sweeper: {{_target_: {target}, storage: null, n_jobs: 1, direction: maximize}}}}\n"
    app = hydra_app(config, "hydra/sweeper=besom")
    assert app.config.hydra.sweeper._target_ == BESOM
    assert app.config.hydra.sweeper.direction == "maximize"


def test_target_of_another_sweeper_is_refused(hydra_app: MakeApp) -> None:
    config = "hydra: {sweeper: {_target_: hydra_plugins.hydra_ax_sweeper.ax_sweeper.AxSweeper}}\n"
    with pytest.raises(ConfigCompositionException, match="AxSweeper is not the sweeper that hydra/sweeper chooses"):
        hydra_app(config, "hydra/sweeper=besom")


@pytest.mark.parametrize(
    ("arguments", "trials", "sampler"),
    [
        (["x=1,2,3", "y=1,2"], 6, "GridSampler"),
        (["x=choice(1,2)"], 2, "GridSampler"),
        ([f"x={','.join(map(str, range(30)))}"], 30, "GridSampler"),
        (["x=range(0,20)"], 20, "GridSampler"),
        (["x=range(0,21)"], 20, None),
        (["x=1,2", "y=interval(0,1)"], 20, None),
    ],
)
def test_without_a_number_of_trials_choices_and_few_points_are_each_tried_once(
    hydra_app: MakeApp, arguments: list[str], trials: int, sampler: str | None
) -> None:
    spec = request(hydra_app(CONFIG, "hydra/sweeper=besom"), *arguments).spec
    assert spec.budget.n_trials == trials
    assert spec.search.sampler.get("_target_") == (sampler and f"optuna.samplers.{sampler}")


def test_number_of_trials_or_sampler_that_is_given_is_kept(hydra_app: MakeApp) -> None:
    given = request(hydra_app(CONFIG, "hydra/sweeper=besom", "hydra.sweeper.n_trials=7"), "x=1,2,3").spec
    assert (given.budget.n_trials, given.search.sampler) == (7, {})
    tpe = request(hydra_app(CONFIG, "hydra/sweeper=besom", "hydra/sweeper/sampler=tpe"), "x=1,2,3").spec
    assert (tpe.budget.n_trials, tpe.search.sampler["_target_"]) == (20, "optuna.samplers.TPESampler")
    grid = request(hydra_app(CONFIG, "hydra/sweeper=besom", "hydra/sweeper/sampler=grid"), "x=range(0,30)").spec
    assert grid.budget.n_trials == 30


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("n_trials=many", "n_trials: many is no number; take 1 or more"),
        ("finalists.top=3", "finalists: only besom sweep with its own workers has finalists; set it to null"),
        ("tracking=http://localhost", "tracking: 'http://localhost' is none of true, null and"),
        ("tracking={url: here}", "tracking: there is no key url; did you mean uri?"),
        ("tracking={views: all}", "tracking: views: 'all' is unknown; use one of auto, off"),
    ],
)
def test_key_that_is_wrong_for_an_app_is_refused(hydra_app: MakeApp, given: str, said: str) -> None:
    theirs = hydra_app(CONFIG, "hydra/sweeper=besom", f"hydra.sweeper.{given}")
    with pytest.raises(Exception, match=re.escape(f"config.yaml: hydra.sweeper.{said}")):
        request(theirs, "x=0,1")
