from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from besom.config.checks import check
from besom.config.paths import sweeps_dir
from besom.sweep.compose import Composer
from besom.sweep.dry_run.checks import lint
from besom.sweep.dry_run.show import dry_run
from besom.sweep.space.parser import SpaceParser
from besom.sweep.spec import SweepSpec
from tests.conftest import App

SWEEPS = sorted(path.stem for path in sweeps_dir().glob("*.yaml"))


class Dry:
    """A sweep, and the output of its dry run."""

    def __init__(self, load_app: Callable[..., App], name: str, *overrides: str) -> None:
        loader, config = load_app(sweeps_dir(), name, "trainer=cpu", *overrides)
        arguments = [one for one in overrides if not one.startswith("hydra")]
        self.read(loader, config, arguments, check)

    def read(self, loader: ConfigLoader, config: DictConfig, arguments: list[str], check: Any) -> None:
        self.spec = SweepSpec.read(config)
        keys: Any = OmegaConf.to_container(config.hydra.sweeper)
        parser = SpaceParser(loader, source=self.spec.source, arguments=arguments)
        self.space, line = parser.space(keys["params"], keys["when"])
        self.composer = Composer(loader, config, line)
        self.check = check

    def shown(self, width: int = 140) -> str:
        written = io.StringIO()
        console = Console(file=written, width=width)
        self.failed = dry_run(console, spec=self.spec, space=self.space, composer=self.composer, check=self.check)
        return written.getvalue()

    def lints(self) -> list[str]:
        found = lint(self.spec, self.space, self.composer, self.check)
        return [f"{'error' if one.is_error else 'warning'}: {one.text}" for one in found]


@pytest.fixture(scope="session")
def dry(load_app: Callable[..., App]) -> Callable[..., Dry]:
    return lambda name, *overrides: Dry(load_app, name, *overrides)


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize("width", [80, 140])
def test_nothing_looks_wrong_with_the_shipped_sweeps(dry: Callable[..., Dry], name: str, width: int):
    sweep = dry(name)
    shown = sweep.shown(width)
    assert shown.endswith("nothing looks wrong\n")
    assert not sweep.failed
    for parameter in sweep.space.parameters:
        assert f" {parameter.key} " in shown
    assert all(len(line) <= width for line in shown.split("points")[0].splitlines())


def test_a_dry_run_shows_three_whole_configs_the_same_each_time(dry: Callable[..., Dry]):
    sweep = dry("digits")
    shown = sweep.shown()
    assert shown == dry("digits").shown()
    trials = shown.split("\ntrial ")[1:]
    assert [trial[0] for trial in trials] == ["0", "1", "2"]
    trials[2] = trials[2].split("\n\n")[0]
    configs = [yaml.safe_load(trial.partition("\n")[2]) for trial in trials]
    for config in configs:
        assert config["data"]["batch_size"] == 64
        assert config["trainer"]["max_epochs"] == 20
    assert len({config["optimizer"]["lr"] for config in configs}) == 3


def test_a_dry_run_tells_of_space_sampler_pruner_and_budget(dry: Callable[..., Dry]):
    shown = dry(
        "digits", "optimizer.lr=choice(0.1,0.01)", "hydra/sweeper/sampler=grid", "hydra/sweeper/pruner=median",
        "hydra.sweeper.timeout=3600", "hydra.sweeper.patience=5", "hydra.sweeper.pruner.n_warmup_steps=2",
        "hydra.sweeper.constraints=['cost/params <= 5e4']", "hydra.sweeper.retries=1",
    ).shown()  # fmt: skip
    assert "study digits: maximize val/acc" in shown
    assert "\npoints      222\n" in shown
    assert "\nsampler     GridSampler(seed=0)\n" in shown
    assert "\npruner      MedianPruner(n_warmup_steps=2)\n" in shown
    told = "until 30 trials, or 3600 s, or 5 trials without a better one; 1 more attempts for one that fails"
    assert f"\nbudget      {told}\n" in shown
    assert "\nconstraints cost/params <= 5e4\n" in shown
    again = "the best 3 and the best baseline again, 5 fresh seeds each, and tested: 15 runs, or 20 if"
    assert f"\nfinalists   {again} the baseline is not one of the best 3\n" in shown
    assert "model.depth       whole   1 to 3                               model=mlp_classifier" in shown
    assert "\ntrial 0  model=logistic_regression  optimizer=sgd  optimizer.lr=0.1\n" in shown
    assert "\ntrial 1  model=logistic_regression  optimizer=sgd  optimizer.lr=0.01\n" in shown


def test_what_is_enqueued_comes_first(dry: Callable[..., Dry]):
    known = "{model: mlp_classifier, optimizer: sgd, optimizer.lr: 0.05, model.depth: 1, model.width: 64}"
    shown = dry("digits", f"hydra.sweeper.enqueue=[{known}]").shown()
    first = shown.split("\ntrial ")[1]
    assert "optimizer.lr=0.05" in first
    assert "model.width=64" in first


MODELS = ("LogisticRegression", "MLPClassifier")
LINTS = [
    ((), []),
    (("optimizer=sgd,sgd2",), ["error: optimizer=sgd2: there is no such config"]),
    (("optimizer.momentum=0.1,0.2",), ["error: there is no key optimizer.momentum"]),
    (("data.batch_size=0,64",), ["error: data.batch_size: 0 is below 1"]),
    (("objective=val/ac",), [f"error: objective: 'val/ac' is not a metric of {model}" for model in MODELS]),
    (("hydra.sweeper.sampler={_target_: optuna.samplers.Tpe}",), ["error: hydra.sweeper.sampler: .*does not exist"]),
    (("hydra/sweeper/sampler=grid",), ["error: optimizer.lr: an interval has no number of points"]),
    (("hydra.sweeper.pruner={_target_: optuna.Nop}",), ["error: hydra.sweeper.pruner: .* does not exist"]),
    (("hydra.sweeper.constraints=[a]",), ["error: hydra.sweeper.constraints: 'a' is not one comparison"]),
    (
        ("hydra.sweeper.constraints=['val/los < 1']",),
        [f"warning: constraint 'val/los < 1': {model} logs no val/los" for model in MODELS],
    ),
    (("hydra.sweeper.constraints=['cost/params < 1', 'test/acc > 0', 'val/f1 > 0']",), []),
    (("hydra.sweeper.enqueue=[{optimizer.lr: 7}]",), [r"error: hydra.sweeper.enqueue\[0\]: optimizer.lr: 7 cannot be"]),
    (("hydra.sweeper.enqueue=[{optimizer: sgd}, {optimizer: sgd}]",), [r"warning: .*\[1\]: is there twice"]),
    (("model.width=range(10, 20, 4)",), ["warning: model.width: the range's end 20 is skipped, its last value is 18"]),
    (("model.width=range(10, 22, 4)",), []),
    (("model.width=range(32, 257, 32)",), []),
    (("early_stopping.min_delta=range(0, 0.51, 0.1)",), []),
    (("early_stopping.min_delta=range(0, 0.5, 0.2)",), ["warning: .*min_delta: the range.s end 0.5 is skipped"]),
    (("data.batch_size=choice(64)",), ["warning: data.batch_size: there is one value to choose, 64"]),
    (("optimizer.lr=interval(0.1, 0.1)",), ["warning: optimizer.lr: there is one value to choose, 0.1"]),
    (("early_stopping.min_delta=choice(0, 0.0, 0.1)",), ["warning: early_stopping.min_delta: 0.0 is there twice"]),
    (("+nobody=1,2",), ["warning: .nobody: no _target_ and no .* reads it"]),
    (("+nobody=1,2", "data.limit=${nobody}"), []),
    (("+trainer.gradient_clip_val=1.0,2.0",), []),
    (("+trainer.gradient_clip_value=1.0,2.0",), ["error: there is no key trainer.gradient_clip_value; did"]),
    (("+data.sizes=1,2",), ["warning: .data.* takes no 'sizes'"]),
    (("model=mlp_classifier", "model.hidden_sizes=[3]"), ["warning: model.depth: model.h", "warning: model.width"]),
    (("hydra.sweeper.n_trials=null",), ["warning: .* nor patience: .*, and never comes to its finalists"]),
    (("hydra.sweeper.finalists.seeds=1",), ["warning: .*finalists.seeds: of a single seed there is no interval"]),
    (
        ("hydra.sweeper.finalists.overrides={model.depth: 3}",),
        ["error: hydra.sweeper.finalists.overrides: there is no key model.depth"],
    ),
    (("hydra.sweeper.n_trials=null", "hydra.sweeper.timeout=5"), []),
    (("hydra.sweeper.patience=30",), ["warning: hydra.sweeper.patience: 30 is not below n_trials"]),
    (("hydra.sweeper.n_trials=9",), ["warning: .*: TPESampler chooses none of the 9 trials: .* first 10, at"]),
    (("hydra/sweeper/sampler=nsgaii",), ["warning: .*: NSGAIISampler chooses none of the 30 trials: .* 50, at"]),
    (("hydra/sweeper/sampler=qmc",), ["warning: .* QMCSampler draws .*: model.depth, model.width, model.activation"]),
    (("optimizer.lr=0.1,0.01", "hydra.sweeper.n_trials=300"), ["warning: .*300 is above the 222 points .* than once"]),
    (
        ("optimizer.lr=0.1,0.01", "hydra.sweeper.n_trials=300", "hydra/sweeper/sampler=grid"),
        ["warning: .*300 is above the 222 points of the space: there will be 222 trials"],
    ),
    (("hydra/sweeper/pruner=hyperband",), ["warning: .*: TPESampler chooses 5 of the 30 trials: .* 3 brackets, which"]),
    (("hydra/sweeper/pruner=hyperband", "hydra.sweeper.n_trials=60"), []),
    (("hydra/sweeper/pruner=successive_halving",), []),
    (
        ("hydra/sweeper/pruner=hyperband", "early_stopping.patience=3", "hydra.sweeper.n_trials=60"),
        ["warning: .* set max_resource to 20"],
    ),
    (
        ("hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_warmup_steps=20"),
        ["warning: .* MedianPruner decides from epoch 20 on, and trainer.max_epochs is 20: it prunes nothing"],
    ),
    (
        ("hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_warmup_steps=5", "evaluation.folds=5"),
        ["warning: .* MedianPruner decides from fold 5 on, and evaluation.folds is 5: it prunes nothing"],
    ),
    (
        (
            "hydra/sweeper/pruner=hyperband",
            "early_stopping.patience=3",
            "evaluation.folds=5",
            "hydra.sweeper.n_trials=60",
        ),
        [],
    ),
    (
        ("hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_warmup_steps=5", "early_stopping.patience=4"),
        ["warning: .* early_stopping.patience 4 may end a trial before MedianPruner looks at it, from epoch 5 on"],
    ),
    (
        ("objective=[val/acc,cost/params]", "direction=[maximize,minimize]", "hydra/sweeper/sampler=cmaes"),
        [r"error: hydra.sweeper.sampler: .*(one objective, not 2|pip install cmaes)", "warning: .*draws choices"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "told"), LINTS)
def test_each_lint_tells_of_what_looks_wrong_and_of_nothing_else(
    dry: Callable[..., Dry], overrides: tuple[str, ...], told: list[str]
):
    found = dry("digits", *overrides).lints()
    assert len(found) == len(told), found
    for line, expected in zip(sorted(found), sorted(told), strict=True):
        assert re.match(expected, line), line
        assert "\n" not in line


def test_errors_come_first_and_are_returned(dry: Callable[..., Dry]):
    sweep = dry("digits", "hydra.sweeper.patience=30", "hydra.sweeper.constraints=[a]")
    shown = sweep.shown()
    assert sweep.failed
    assert [line.split(":")[0] for line in shown.splitlines()[-2:]] == ["error", "warning"]


def test_nothing_is_known_of_the_metrics_of_a_users_own_model(load_app: Callable[..., App], tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("_target_: my_package.Net\nwidth: 3\n")
    (tmp_path / "mine.yaml").write_text(
        "defaults: [train, override model: mine, override hydra/sweeper: besom, _self_]\n"
        "objective: val/iou\n"
        "hydra: {sweeper: {params: {model.width: 'range(1, 100)'}}}\n"
    )
    loader, config = load_app(tmp_path, "mine")
    sweep = Dry.__new__(Dry)
    sweep.read(loader, config, [], check)
    assert sweep.lints() == [
        "warning: objective: whether my_package.Net logs val/iou shows only when it trains; "
        "a trial that does not log it fails"
    ]


def test_another_app_reads_its_config_as_it_likes(load_app: Callable[..., App], tmp_path: Path):
    (tmp_path / "app.yaml").write_text(
        "defaults: [{override hydra/sweeper: besom}, _self_]\n"
        "x: 1\npassword: ${oc.env:BESOM_TEST_NOT_SET}\nname: ${hydra:job.name}\n"
        "hydra: {sweeper: {params: {x: 'interval(0, 1)', +w: 'interval(0, 1)'}}}\n"
    )
    loader, config = load_app(tmp_path, "app")
    sweep = Dry.__new__(Dry)
    sweep.read(loader, config, [], lambda _: None)
    assert sweep.lints() == []
    assert "password: ${oc.env:BESOM_TEST_NOT_SET}" in sweep.shown()


def test_a_function_that_cannot_be_asked_is_an_error(
    load_app: Callable[..., App], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "my_dry_space.py").write_text("def configure(config, trial):\n    trial.suggest_float('x', 2, 1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "app.yaml").write_text("defaults: [{override hydra/sweeper: besom}, _self_]\nx: 1\n")
    loader, config = load_app(tmp_path, "app")
    sweep = Dry.__new__(Dry)
    sweep.read(loader, config, [], lambda _: None)
    sweep.space, _ = SpaceParser(loader, source="app.yaml").space({}, {}, custom="my_dry_space.configure")
    (told,) = sweep.lints()
    assert told.startswith("error: hydra.sweeper.custom_search_space: my_dry_space.configure: raised ValueError")
    assert "what my_dry_space.configure asks for" in sweep.shown()


def test_a_dry_run_needs_no_torch():
    code = "import sys, besom.sweep.dry_run.show; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "False\n"


def test_of_an_own_table_it_tells_what_the_columns_are_taken_for_or_why_it_cannot_be_read(
    dry: Callable[..., Dry], tmp_path: Path
):
    path = tmp_path / "t.csv"
    table = ["data=csv", f"data.source.path={path}", "data.source.target=y"]
    path.write_text("a,b,y\n" + "".join(f"{row},{'uv'[row % 2]},{row % 3}\n" for row in range(30)), encoding="utf-8")
    assert (
        "data        columns: numbers a; categories b (2 values); target y (3 classes)\n"
        in dry("digits", *table).shown()
    )
    path.write_text("a,b,y\n" + "".join(f"{row}%,1,{row % 3}\n" for row in range(30)), encoding="utf-8")
    sweep = dry("digits", *table)
    assert f"error: {path}: row 2, column 'a' holds '0%'; write it as a plain number, or" in sweep.shown(300)
    assert sweep.failed
