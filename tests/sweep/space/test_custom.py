from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf

from besom.errors import ConfigError
from besom.sweep.compose import Composer
from besom.sweep.space.parser import SpaceParser
from besom.sweep.space.search_space import SearchSpace
from tests.conftest import App

MODULE = """\
from optuna.exceptions import TrialPruned

def configure(config, trial):
    x = trial.params["rate"]
    trial.suggest_float("+z", x - config.reach, x + config.reach)
    if trial.suggest_categorical("name", ["a", "b"]) == "b":
        trial.suggest_int("+depth", 1, 3)

def fixed_too(config, trial):
    assert trial.user_attrs["flag"] == "false"
    trial.suggest_categorical("flag", [True, False])

def by_key(config, trial):
    trial.suggest_float("+decay", 0, trial.params["rate"])
    assert set(trial.params) == {"name", "rate", "+decay"}

def broken(config, trial):
    raise KeyError("no such thing\\nat all")
"""


@pytest.fixture
def read(small_app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "my_spaces.py").write_text(MODULE)
    (tmp_path / "my_broken_module.py").write_text("import nosuchpackage\n")
    monkeypatch.syspath_prepend(tmp_path)

    def run(name: str, *arguments: str) -> tuple[SearchSpace, Any]:
        parser = SpaceParser(small_app[0], source="digits.yaml", arguments=arguments)
        config = OmegaConf.create({"reach": 0.5})
        return parser.space({"rate": "interval(0, 1)"}, {}, custom=name, config=config)

    return run


def test_a_function_is_asked_after_the_files_parameters(read: Any):
    space, _ = read("my_spaces.configure")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = [space.sample(study.ask()) for _ in range(30)]
    for params in seen:
        assert abs(params["+z"] - params["rate"]) <= 0.5
        assert ("+depth" in params) == (params["name"] == "b")
    assert {params["name"] for params in seen} == {"a", "b"}


def test_the_dot_before_the_function_of_hydras_example_changes_nothing(read: Any):
    space, _ = read(".my_spaces.configure")
    assert "+z" in space.sample(optuna.create_study().ask())


def test_a_trial_that_is_taken_up_again_gets_the_same_answers(read: Any):
    space, _ = read("my_spaces.configure")
    first = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    before = [space.sample(first.ask()) for _ in range(5)]
    again = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=99))
    for trial in first.trials:
        trial.state = optuna.trial.TrialState.WAITING
        again.add_trial(trial)
    assert [space.sample(again.ask()) for _ in range(5)] == before


def test_a_function_finds_what_was_chosen_by_its_config_key(small_app: App, read: Any):
    parser = SpaceParser(small_app[0], source="digits.yaml")
    when = {"name=a": {"rate": "interval(0, 0.1)"}, "name=b": {"rate": "interval(0.5, 1)"}}
    space, _ = parser.space({"name": "choice(a, b)"}, when, custom="my_spaces.by_key", config=OmegaConf.create({}))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = [space.sample(study.ask()) for _ in range(20)]
    assert {params["name"] for params in seen} == {"a", "b"}
    for trial, params in zip(study.trials, seen, strict=True):
        assert set(params) == {"name", "rate", "+decay"}
        assert params["+decay"] == trial.params["+decay"] <= params["rate"]


def test_what_a_function_asks_for_reaches_the_config(read: Any, small_app: App):
    space, line = read("my_spaces.configure")
    params = {"rate": 0.5, "+z": 0.25, "name": "b", "+depth": 2}
    composer = Composer(*small_app, fixed=line)
    config = composer.compose(params)
    assert (config.rate, config.z, config.name, config.depth) == (0.5, 0.25, "b", 2)
    assert composer.overrides(params) == ["rate=0.5", "+z=0.25", "name=b", "+depth=2"]
    assert space.to_stored(params) == params


def test_a_space_may_come_from_a_function_alone(small_app: App, read: Any):
    space, _ = SpaceParser(small_app[0], source="digits.yaml").space({}, {}, custom="my_spaces.configure")
    assert not space.is_empty
    assert SearchSpace(parameters=()).is_empty


def test_nobody_can_count_what_a_function_asks_for(read: Any):
    space, _ = read("my_spaces.configure", "rate=range(1, 3)")
    assert space.size() is None
    with pytest.raises(ValueError, match="custom_search_space"):
        space.points()


def test_a_study_with_another_function_is_another_study(read: Any):
    signatures = [read(f"my_spaces.{name}")[0].signature() for name in ("configure", "fixed_too")]
    assert signatures[0] != signatures[1]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my_spaces.configura", r"my_spaces\.configura cannot be imported \("),
        ("nosuchmodule.configure", r"cannot be imported \(.*nosuchmodule.*\); name a function"),
        ("my_broken_module.configure", r"cannot be imported \(.*nosuchpackage"),
        ("optuna.version.__version__", "cannot be imported"),
    ],
)
def test_a_function_that_is_not_there_is_refused_in_one_line(
    read: Any, caplog: pytest.LogCaptureFixture, name: str, told: str
):
    with pytest.raises(ConfigError, match=told) as refused:
        read(name)
    assert not caplog.records  # Hydra's own message
    assert str(refused.value).startswith("digits.yaml: hydra.sweeper.custom_search_space: ")
    assert "\n" not in str(refused.value)


def test_a_function_that_raises_ends_the_sweep_in_one_line(read: Any):
    space, _ = read("my_spaces.broken")
    with pytest.raises(ConfigError, match=r"my_spaces\.broken: raised KeyError: .*; mend the function") as refused:
        space.sample(optuna.create_study().ask())
    assert "\n" not in str(refused.value)


def test_what_is_fixed_cannot_be_suggested(read: Any):
    space, _ = read("my_spaces.fixed_too", "flag=false")
    with pytest.raises(ConfigError, match=r"my_spaces\.fixed_too: suggests flag, which is fixed as false"):
        space.sample(optuna.create_study().ask())
