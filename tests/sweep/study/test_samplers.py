from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import TrialState

from besom.config.hydra_versions import VERSION_BASE
from besom.errors import ConfigError
from besom.sweep.space.parser import SpaceParser
from besom.sweep.space.search_space import SearchSpace
from besom.sweep.spec import SweepSpec
from besom.sweep.study.samplers import build_pruner, build_sampler
from besom.sweep.study.storage import TrialStorage
from tests.conftest import App

PARAMS = {"rate": "tag(log, interval(1e-3, 1))", "size": "range(1, 20)", "model": "choice(linear, mlp)"}
WHEN = {"model=mlp": {"depth": "range(1, 5)"}}
TRIALS = 16

SAMPLERS: dict[str, dict[str, Any]] = {
    "default": {},
    "only keys of TPE": {"n_startup_trials": 4},
    "tpe": {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 4},
    "random": {"_target_": "optuna.samplers.RandomSampler"},
    "cmaes": {"_target_": "optuna.samplers.CmaEsSampler", "popsize": 4},
    "cmaes with margin": {"_target_": "optuna.samplers.CmaEsSampler", "popsize": 4, "with_margin": True},
    "gp": {"_target_": "optuna.samplers.GPSampler", "n_startup_trials": 12},
    "qmc": {"_target_": "optuna.samplers.QMCSampler", "scramble": True},
    "halton": {"_target_": "optuna.samplers.QMCSampler", "qmc_type": "halton"},
    "nsgaii": {"_target_": "optuna.samplers.NSGAIISampler", "population_size": 4},
    "nsgaiii": {"_target_": "optuna.samplers.NSGAIIISampler", "population_size": 4},
    "brute force": {"_target_": "optuna.samplers.BruteForceSampler"},
    "partial fixed": {
        "_target_": "optuna.samplers.PartialFixedSampler",
        "fixed_params": {"model": "mlp", "depth": 2},
        "base_sampler": {"_target_": "optuna.samplers.NSGAIISampler", "population_size": 4},
    },
}


@pytest.fixture(autouse=True)
def _optuna_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    optuna.logging.enable_propagation()
    yield
    optuna.logging.disable_propagation()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.fixture
def space(small_app: App, request: pytest.FixtureRequest) -> SearchSpace:
    """Return a space with an interval, except for a sampler that needs countable points."""
    finite = "brute" in request.node.name
    params = {**PARAMS, "rate": "range(0.1, 0.6, 0.1)"} if finite else PARAMS
    when = {} if "margin" in request.node.name else WHEN  # Optuna's CMA-ES with margin fails with conditions
    return SpaceParser(small_app[0], source="digits.yaml").space(params, when)[0]


def needs(name: str) -> None:
    if "cmaes" in name:
        pytest.importorskip("cmaes")


def value(params: Mapping[str, Any]) -> float:
    """Return a smooth objective whose minimum no sampler finds by chance."""
    return (params["rate"] - 0.3) ** 2 + (params["size"] - 7) ** 2 / 50 + params.get("depth", 3.3) / 10


def ask_until(study: optuna.Study, spec: SweepSpec, space: SearchSpace, count: int) -> None:
    """Ask and tell until there are `count` trials, each with a new sampler."""
    while (number := len(study.trials)) < count:
        study.sampler = build_sampler(spec.search, number, space)
        trial = study.ask()
        params = space.sample(trial)
        study.tell(trial, [value(params)] * len(study.directions))


def moved(study: optuna.Study, storage: optuna.storages.BaseStorage) -> optuna.Study:
    """Return a copy of the study in another storage, as a resuming process finds it."""
    other = optuna.create_study(storage=storage, directions=study.directions)
    other.add_trials(study.trials)
    for key, kept in study._storage.get_study_system_attrs(study._study_id).items():
        other._storage.set_study_system_attr(other._study_id, key, kept)
    return other


def asked(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_study_that_is_interrupted_asks_what_it_would_have_asked(
    name: str, space: SearchSpace, make_spec: Callable[..., SweepSpec], tmp_path: Path
):
    needs(name)
    spec = make_spec(sampler=SAMPLERS[name], seed=3)
    whole = optuna.create_study()
    ask_until(whole, spec, space, TRIALS)
    interrupted = optuna.create_study()
    for stop in (1, 5, 11, TRIALS):
        ask_until(interrupted, spec, space, stop)
        interrupted = moved(interrupted, InMemoryStorage())
    assert asked(interrupted) == asked(whole)
    assert len({repr(params) for params in asked(whole)}) > TRIALS // 2, "a fresh sampler that repeats itself"


@pytest.mark.parametrize("name", ["default", "cmaes", "nsgaii", "nsgaiii", "qmc"])
def test_a_study_in_a_database_goes_on_as_well(
    name: str, space: SearchSpace, make_spec: Callable[..., SweepSpec], tmp_path: Path
):
    needs(name)
    spec = make_spec(sampler=SAMPLERS[name], seed=3)
    whole = optuna.create_study()
    ask_until(whole, spec, space, TRIALS)
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    for stop in (7, TRIALS):
        trial_storage = TrialStorage(RDBStorage(url), url, "digits", whole.directions)
        while (number := len(trial_storage.study.trials)) < stop:
            ask_until(trial_storage.study, spec, space, number + 1)
            trial_storage.write_asked(number)
        trial_storage.close()
    stored = optuna.load_study(study_name="digits", storage=url)
    assert asked(stored) == asked(whole)


def test_generations_go_on_over_samplers(space: SearchSpace, make_spec: Callable[..., SweepSpec]):
    study = optuna.create_study(directions=["minimize", "minimize"])
    ask_until(study, make_spec(sampler=SAMPLERS["nsgaii"]), space, 12)
    generations = [trial.system_attrs["NSGAIISampler:generation"] for trial in study.trials]
    assert generations == [0] * 4 + [1] * 4 + [2] * 4


def test_evolution_goes_on_over_samplers(space: SearchSpace, make_spec: Callable[..., SweepSpec]):
    needs("cmaes")
    study = optuna.create_study()
    ask_until(study, make_spec(sampler=SAMPLERS["cmaes"]), space, 14)
    generations = [trial.system_attrs.get("cma:generation") for trial in study.trials]
    assert max(one for one in generations if one is not None) == 3


def test_a_sequence_visits_each_of_its_points_once(space: SearchSpace, make_spec: Callable[..., SweepSpec]):
    spec = make_spec(sampler={"_target_": "optuna.samplers.QMCSampler"})
    plain = optuna.create_study(sampler=optuna.samplers.QMCSampler(seed=0))
    for _ in range(TRIALS):
        trial = plain.ask()
        plain.tell(trial, value(space.sample(trial)))
    study = optuna.create_study()
    ask_until(study, spec, space, TRIALS)
    sizes = [[trial.params["size"] for trial in one.trials[1:]] for one in (plain, study)]
    assert sizes[0] == sizes[1]


def test_another_seed_asks_for_something_else(space: SearchSpace, make_spec: Callable[..., SweepSpec]):
    studies = [optuna.create_study() for _ in range(3)]
    for study, changes in zip(studies, ({"seed": 1}, {"seed": 2}, {"seed": 1, "sampler": {"seed": 2}}), strict=True):
        ask_until(study, make_spec(**changes), space, 5)
    assert asked(studies[0]) != asked(studies[1]) == asked(studies[2])


def test_partial_fixed_holds_parameters_by_their_config_keys(space: SearchSpace, make_spec: Callable[..., SweepSpec]):
    study = optuna.create_study()
    ask_until(study, make_spec(sampler=SAMPLERS["partial fixed"]), space, 6)
    assert {(trial.params["model"], trial.params["depth"]) for trial in study.trials} == {("mlp", 2)}
    assert len({trial.params["rate"] for trial in study.trials}) > 3


# Errors, each in one line.


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        ({"_target_": "optuna.samplers.TPESampla"}, r"does not exist; did you mean TPESampler\?"),
        ({"_target_": "TPESampler"}, r"does not exist; optuna\.samplers\. followed by one of these: .*TPESampler"),
        ({"_target_": "optuna.samplers.BaseSampler.x"}, "does not exist"),
        ({"_target_": "optuna.pruners.MedianPruner"}, "is not an Optuna sampler"),
        ({"_target_": "optuna.samplers.RandomSampler", "seeds": 1}, r"sampler\.seeds: RandomSampler takes no 'seeds'"),
        ({"n_startup_trails": 1}, r"sampler\.n_startup_trails: TPESampler takes no .* mean n_startup_trials"),
        ({"_target_": "optuna.samplers.NSGAIISampler", "population_size": 1}, "population_size"),
        ({"_target_": "optuna.samplers.QMCSampler", "qmc_type": "moebius"}, "moebius"),
        ({"_target_": "optuna.samplers.PartialFixedSampler"}, r"fixed_params: names nothing"),
        (
            {**SAMPLERS["partial fixed"], "fixed_params": {"modle": "mlp"}},
            r"fixed_params\.modle: it is not sampled; did you mean model\?",
        ),
        ({**SAMPLERS["partial fixed"], "fixed_params": {"depth": 9}}, r"depth: 9 cannot be chosen; choose from whole"),
        (
            {**SAMPLERS["partial fixed"], "base_sampler": {"_target_": "optuna.samplers.Tpe"}},
            r"sampler\.base_sampler: optuna\.samplers\.Tpe does not exist",
        ),
    ],
)
def test_a_sampler_that_cannot_be_built_is_refused_in_one_line(
    space: SearchSpace, make_spec: Callable[..., SweepSpec], sampler: dict[str, Any], told: str
):
    with pytest.raises(ConfigError, match=told) as refused:
        build_sampler(make_spec(sampler=sampler).search, 0, space)
    assert str(refused.value).startswith("digits.yaml: hydra.sweeper.sampler")
    assert "\n" not in str(refused.value)


def test_a_missing_package_is_named_with_how_to_get_it(
    make_spec: Callable[..., SweepSpec], monkeypatch: pytest.MonkeyPatch
):
    if importlib.util.find_spec("cmaes"):
        monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(ConfigError, match="CmaEsSampler needs a package more: pip install cmaes"):
        build_sampler(make_spec(sampler=SAMPLERS["cmaes"]).search, 0)


# Pruners.


def test_without_a_pruner_nothing_is_pruned(make_spec: Callable[..., SweepSpec]):
    assert isinstance(build_pruner(make_spec().search), optuna.pruners.NopPruner)


@pytest.mark.parametrize(
    ("pruner", "told"),
    [
        ({"n_startup_trials": 1}, "has no _target_; name one, such as optuna.pruners"),
        ({"_target_": "optuna.pruners.Median"}, r"does not exist; did you mean MedianPruner\?"),
        ({"_target_": "optuna.pruners.MedianPruner", "warmup": 1}, r"pruner\.warmup: MedianPruner takes no 'warmup'"),
        ({"_target_": "optuna.samplers.TPESampler"}, "is not an Optuna pruner"),
        ({"_target_": "optuna.pruners.ThresholdPruner"}, "lower or upper"),
    ],
)
def test_a_pruner_that_cannot_be_built_is_refused_in_one_line(
    make_spec: Callable[..., SweepSpec], pruner: dict[str, Any], told: str
):
    with pytest.raises(ConfigError, match=told) as refused:
        build_pruner(make_spec(pruner=pruner).search)
    assert str(refused.value).startswith("digits.yaml: hydra.sweeper.pruner")
    assert "\n" not in str(refused.value)


# By name, in any Hydra app.

Compose = Callable[..., DictConfig]


@pytest.fixture
def compose_app(tmp_path: Path) -> Compose:
    """Return a function that composes the sweeper's node of an app with this config and these overrides."""

    def compose(text: str, *overrides: str) -> DictConfig:
        Plugins.instance()
        (tmp_path / "config.yaml").write_text(text)
        with initialize_config_dir(config_dir=str(tmp_path), **VERSION_BASE):
            loader = GlobalHydra.instance().config_loader()
            return loader.load_configuration("config", list(overrides), run_mode=RunMode.MULTIRUN)

    return compose


NAMES = ["tpe", "random", "grid", "cmaes", "gp", "qmc", "nsgaii", "nsgaiii", "brute_force", "partial_fixed", "motpe"]


@pytest.mark.skipif(optuna.__version__ < "5", reason="the keys by name are those of Optuna 5")
@pytest.mark.parametrize("name", NAMES)
def test_a_sampler_by_name_has_optunas_keys_and_defaults(compose_app: Compose, name: str):
    node = compose_app("x: 1", "hydra/sweeper=besom", f"hydra/sweeper/sampler={name}").hydra.sweeper.sampler
    target = getattr(optuna.samplers, node._target_.rpartition(".")[2])
    defaults = {key: one.default for key, one in inspect.signature(target).parameters.items()}
    assert set(node) - {"_target_"} == set(defaults)
    for key, default in defaults.items():
        assert default is inspect.Parameter.empty or node[key] == default


@pytest.mark.parametrize("name", NAMES)
def test_a_sampler_by_name_asks_as_it_is(
    compose_app: Compose, space: SearchSpace, make_spec: Callable[..., SweepSpec], name: str
):
    needs(name)
    fixed = ["hydra.sweeper.sampler.fixed_params={model: mlp}"] if name == "partial_fixed" else []
    spec = SweepSpec.read(compose_app("x: 1", "hydra/sweeper=besom", f"hydra/sweeper/sampler={name}", *fixed))
    study = optuna.create_study()
    ask_until(study, spec, space, 3)
    assert len({repr(params) for params in asked(study)}) == 3


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", "NopPruner"),
        ("median", "MedianPruner"),
        ("percentile", "PercentilePruner"),
        ("patient", "PatientPruner"),
        ("successive_halving", "SuccessiveHalvingPruner"),
        ("hyperband", "HyperbandPruner"),
        ("wilcoxon", "WilcoxonPruner"),
    ],
)
def test_a_pruner_by_name_is_built_as_it_is(compose_app: Compose, name: str, kind: str):
    config = compose_app("x: 1", "hydra/sweeper=besom", f"hydra/sweeper/pruner={name}")
    assert type(build_pruner(SweepSpec.read(config).search)).__name__ == kind


def test_a_threshold_needs_a_bound(compose_app: Compose):
    chosen = ("hydra/sweeper=besom", "hydra/sweeper/pruner=threshold")
    config = compose_app("x: 1", *chosen, "hydra.sweeper.pruner.upper=2")
    assert isinstance(build_pruner(SweepSpec.read(config).search), optuna.pruners.ThresholdPruner)


@pytest.mark.parametrize("name", ["hyperband", "successive_halving"])
def test_a_preset_lets_the_best_third_go_on_from_the_first_epoch(compose_app: Compose, name: str):
    config = compose_app("x: 1", "hydra/sweeper=besom", f"hydra/sweeper/pruner={name}")
    pruner = build_pruner(SweepSpec.read(config).search)
    study = optuna.create_study(study_name="digits", pruner=pruner, direction="maximize")
    steps = []
    for number in range(40):
        trial = study.ask()
        state = TrialState.COMPLETE
        for epoch in range(27):
            trial.report(1 - number / 100, epoch)  # each worse than the one before
            if epoch < 26 and trial.should_prune():
                state = TrialState.PRUNED
                break
        steps.append(epoch + 1)
        study.tell(trial, None if state is TrialState.PRUNED else 1.0, state=state)
    assert steps[0] == 27
    assert sum(steps) < 40 * 27 / 2


def test_the_keys_of_the_upstream_plugin_mean_what_they_did(compose_app: Compose):
    config = compose_app(
        "defaults: [{override hydra/sweeper: besom}, {override hydra/sweeper/sampler: tpe}, _self_]\n"
        "hydra: {sweeper: {sampler: {seed: 123, n_startup_trials: 5}}}\n"
    )
    assert config.hydra.sweeper.sampler.seed == 123
    assert config.hydra.sweeper.sampler.n_startup_trials == 5


def test_a_key_that_optuna_has_dropped_may_stay_at_its_former_default(compose_app: Compose):
    """With pytest, a warning is an error."""
    config = compose_app(
        "defaults: [{override hydra/sweeper: besom}, {override hydra/sweeper/sampler: tpe}, _self_]\n"
        "hydra: {sweeper: {sampler: {consider_prior: true, prior_weight: 1.0, consider_magic_clip: true,\n"
        "  consider_endpoints: false, warn_independent_sampling: true}}}\n"
    )
    assert isinstance(build_sampler(SweepSpec.read(config).search, 0), optuna.samplers.TPESampler)


def test_a_sampler_by_hand_has_no_keys_of_another_one(compose_app: Compose):
    config = compose_app(
        "defaults: [{override hydra/sweeper: besom}, _self_]\n"
        "hydra: {sweeper: {sampler: {_target_: optuna.samplers.RandomSampler}}}\n"
    )
    assert config.hydra.sweeper.sampler == {"_target_": "optuna.samplers.RandomSampler"}
    assert isinstance(build_sampler(SweepSpec.read(config).search, 0), optuna.samplers.RandomSampler)
