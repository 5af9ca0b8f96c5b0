"""The keys of `hydra.sweeper` in another app's config: each has its effect, or is refused by name."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from besom.config.hydra_versions import store
from besom.errors import ConfigError
from besom.hydra_app.app import swept_app
from besom.sweep.request import SweepRequest
from hydra_plugins.besom_sweeper.config import (
    CmaEsSamplerConfig,
    GridSamplerConfig,
    MOTPESamplerConfig,
    NSGAIISamplerConfig,
    OptunaSweeperConf,
    RandomSamplerConfig,
    TPESamplerConfig,
    with_all_keys,
)
from tests.hydra_app.conftest import App

MakeApp = Callable[..., App]

BESOM = "hydra_plugins.besom_sweeper.besom_sweeper.BesomSweeper"
CONFIG = "x: 1\ny: 1\n"


class Direction(enum.Enum):
    """As in hydra-optuna-sweeper."""

    minimize = 1
    maximize = 2


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


@dataclass
class TheirSweeper:
    """Keys of hydra-optuna-sweeper, as an app that builds on its dataclass has them, and `more`."""

    _target_: str = BESOM
    _recursive_: bool = False
    sampler: Any = None
    direction: Any = Direction.maximize
    storage: Any = None
    study_name: str | None = None
    n_trials: int = 7
    n_jobs: int = 2
    max_failure_rate: float = 0.0
    search_space: dict[str, Any] | None = None
    params: dict[str, str] | None = field(default_factory=lambda: {"x": "interval(0, ${y})"})
    custom_search_space: str | None = None


@dataclass
class TheirSweeperAndMore(TheirSweeper):
    population: int = 3


@pytest.fixture
def theirs(hydra_app: MakeApp) -> Callable[[type[TheirSweeper]], App]:
    def make(schema: type[TheirSweeper]) -> App:
        store("hydra/sweeper", "theirs", schema)
        return hydra_app(CONFIG, "hydra/sweeper=theirs")

    return make


def test_sweeper_may_have_a_dataclass_of_its_own_without_the_keys_of_besom(
    theirs: Callable[[type[TheirSweeper]], App],
) -> None:
    app = theirs(TheirSweeper)
    app.config = with_all_keys(app.config)
    spec = request(app).spec
    assert (spec.budget.n_trials, spec.budget.max_failure_rate, spec.devices.n_jobs) == (7, 0.0, 2)
    assert spec.search.objective.direction == "maximize"
    (bounded,) = request(app).space.parameters
    assert (bounded.key, bounded.distribution) == ("x", FloatDistribution(0, 1))


def test_bound_that_cannot_be_resolved_is_told(hydra_app: MakeApp) -> None:
    app = hydra_app(CONFIG, "hydra/sweeper=besom", "+hydra.sweeper.params.x='interval(0, ${z})'")
    with pytest.raises(ConfigError, match=r"config\.yaml: hydra\.sweeper\.params\.x: .*'z' not found"):
        request(app)


def test_key_of_such_a_dataclass_that_besom_does_not_have_is_refused(
    theirs: Callable[[type[TheirSweeper]], App],
) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.sweeper: there is no key population; use one of "):
        with_all_keys(theirs(TheirSweeperAndMore).config)


def test_dataclasses_of_hydra_optuna_sweeper_have_their_names_here(hydra_app: MakeApp) -> None:
    for name, schema in {
        "tpe": TPESamplerConfig, "random": RandomSamplerConfig, "cmaes": CmaEsSamplerConfig,
        "nsgaii": NSGAIISamplerConfig, "motpe": MOTPESamplerConfig, "grid": GridSamplerConfig,
    }.items():  # fmt: skip
        app = hydra_app(CONFIG, "hydra/sweeper=besom", f"hydra/sweeper/sampler={name}")
        assert app.config.hydra.sweeper.sampler == OmegaConf.structured(schema)
    assert set(OmegaConf.structured(OptunaSweeperConf)) == set(app.config.hydra.sweeper) | {"defaults"}


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


@pytest.mark.parametrize("key", ["params", "search_space"])
@pytest.mark.parametrize(
    ("written", "distribution"),
    [
        ("{type: float, low: 0, high: 1}", FloatDistribution(0, 1)),
        ("{type: float, low: 1e-5, high: 0.1, log: true}", FloatDistribution(1e-5, 0.1, log=True)),
        ("{type: float, low: -5.5, high: 5.5, step: 0.5}", FloatDistribution(-5.5, 5.5, step=0.5)),
        ("{type: float, low: 0, high: 1, step: 0.3}", FloatDistribution(0, 0.9, step=0.3)),
        ("{type: int, low: 1, high: 4}", IntDistribution(1, 4)),
        ("{type: int, low: 16, high: 64, step: 16}", IntDistribution(16, 64, step=16)),
        ("{type: int, low: 1, high: 64, log: true}", IntDistribution(1, 64, log=True)),
        ("{type: categorical, choices: [a, 2, null]}", CategoricalDistribution(["a", 2, None])),
        ("{type: categorical, choices: [[512, 256], [64]]}", CategoricalDistribution(["[512, 256]", "[64]"])),
    ],
)
def test_mapping_is_a_distribution(hydra_app: MakeApp, key: str, written: str, distribution: Any) -> None:
    app = hydra_app(f"x: 1\nhydra: {{sweeper: {{{key}: {{x: {written}}}}}}}\n", "hydra/sweeper=besom")
    (parameter,) = request(app).space.parameters
    assert (parameter.key, parameter.distribution) == ("x", distribution)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("params: {x: {lr: 1}}", "x: a mapping is no value to choose; its type must be one of float, int, categorical"),
        ("params: {x: {type: loguniform, low: 1, high: 2}}", "x: a mapping is no value to choose; its type must"),
        ("params: {x: {type: float, low: 1}}", "x: high is None; give a number"),
        ("params: {x: {type: int, low: 1, hihg: 2}}", "x: there is no hihg in int; did you mean high?"),
        ("params: {x: {type: categorical}}", "x: there is nothing to choose from; add choices: [A, B]"),
        ("search_space: [x]", "hydra.sweeper.search_space: '['x']' is no parameters; write KEY: VALUE lines"),
        ("{params: {x: 1}, search_space: {x: 1}}", "hydra.sweeper.search_space: x: it is in hydra.sweeper.params as"),
    ],
)
def test_parameters_that_are_none_are_refused(hydra_app: MakeApp, written: str, said: str) -> None:
    keys = written if written.startswith("{") else f"{{{written}}}"
    app = hydra_app(f"x: 1\nhydra: {{sweeper: {keys}}}\n", "hydra/sweeper=besom")
    with pytest.raises(ConfigError, match=re.escape(f"config.yaml: {said}")):
        request(app)


EXPERIMENTS = {
    "wide": "# @package _global_\nhydra: {sweeper: {params: {y: 'interval(0, 9)'}}}\n",
    "local": "# @package _global_\ndefaults: [{override /hydra/launcher: joblib}]\nx: 3\n",
    "plain": "# @package _global_\nx: 2\n",
}


def experiments(folder: Path) -> None:
    (folder / "conf" / "experiment").mkdir(parents=True)
    for name, text in EXPERIMENTS.items():
        (folder / "conf" / "experiment" / f"{name}.yaml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("given", [["experiment=wide"], []])
def test_parameters_of_a_chosen_experiment_are_merged_into_those_of_the_sweep(
    hydra_app: MakeApp, tmp_path: Path, given: list[str]
) -> None:
    experiments(tmp_path)
    config = f"""\
    defaults: [_self_, {{experiment: {"null" if given else "wide"}}}, {{override hydra/sweeper: besom}}]
    x: 1
    y: 1
    hydra: {{sweeper: {{params: {{x: "choice(1, 2)", y: "interval(0, 1)"}}}}}}
    """
    parameters = request(hydra_app(config, *given), *given).space.parameters
    assert {one.key: one.distribution for one in parameters} == {
        "x": CategoricalDistribution([1, 2]),
        "y": FloatDistribution(0, 9),
    }


def test_launcher_of_a_chosen_experiment_runs_the_jobs(hydra_app: MakeApp, tmp_path: Path) -> None:
    experiments(tmp_path)
    app = hydra_app("defaults: [_self_, {experiment: null}]\nx: 1\n", "hydra/sweeper=besom", "experiment=local")
    sweep = swept_app(app.config, ["experiment=local", "x=1,2"], app.context, lambda config: 0.0)
    assert "hydra/launcher=joblib" in str(sweep.pool(tmp_path).slots[0])


@pytest.mark.parametrize(
    "given",
    ["devices=cpu", "trials_per_device=2", "devices_per_trial=2", "threads_per_trial=2", "max_trials_per_worker=1",
     "trial_timeout=9"],
)  # fmt: skip
def test_key_of_besoms_workers_is_refused_with_another_launcher(hydra_app: MakeApp, given: str) -> None:
    line = ["x=1,2", f"hydra.sweeper.{given}"]
    for launcher in ("basic", "joblib"):
        app = hydra_app("x: 1\n", "hydra/sweeper=besom", f"hydra/launcher={launcher}", line[1])
        if launcher == "basic":
            swept_app(app.config, line, app.context, lambda config: 0.0)
        else:
            with pytest.raises(ConfigError, match=rf"hydra\.sweeper\.{given.partition('=')[0]}: with hydra/launcher"):
                swept_app(app.config, line, app.context, lambda config: 0.0)


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        (
            "wide",
            "experiment=wide: it sets hydra.sweeper.params.y, which is too late in a trial; choose it",
        ),
        ("local", "experiment=local: it sets hydra.launcher._target_, which is too late in a trial"),
    ],
)
def test_keys_of_the_sweep_in_an_experiment_that_is_sampled_are_refused(
    hydra_app: MakeApp, tmp_path: Path, experiment: str, said: str
) -> None:
    experiments(tmp_path)
    app = hydra_app("defaults: [_self_, {experiment: null}]\nx: 1\ny: 1\n", "hydra/sweeper=besom")
    sweep = swept_app(app.config, [f"experiment=plain,{experiment}"], app.context, lambda config: 0.0)
    with pytest.raises(ConfigError, match=re.escape(f"config.yaml: {said}")):
        sweep.check()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("n_trials=many", "n_trials: many is no number; take 1 or more"),
        ("finalists.top=3", "finalists: they run with fresh seeds, and nothing says which key of the app's config is"),
        ("tracking=http://localhost", "tracking: 'http://localhost' is none of true, null and"),
        ("tracking={url: here}", "tracking: there is no key url; did you mean uri?"),
        ("tracking={views: all}", "tracking: views: 'all' is unknown; use one of auto, off"),
    ],
)
def test_key_that_is_wrong_for_an_app_is_refused(hydra_app: MakeApp, given: str, said: str) -> None:
    theirs = hydra_app(CONFIG, "hydra/sweeper=besom", f"hydra.sweeper.{given}")
    with pytest.raises(ConfigError, match=re.escape(f"config.yaml: hydra.sweeper.{said}")):
        request(theirs, "x=0,1")
