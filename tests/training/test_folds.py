from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from besom.config.checks import resolved
from besom.config.extras.logged import Log
from besom.data import InMemoryDataModule
from besom.errors import ConfigError, TrialFailed, TrialPruned
from besom.models.saved import load
from besom.training.fit import build_data, build_model
from besom.training.folds import train_trial
from besom.training.progress import Moment
from besom.training.result import TrialResult
from tests.running import OWN_DATA

pytestmark = pytest.mark.slow

OWN_MODEL = '''
class Unit(pl.LightningModule):
    """One linear unit whose one metric is NaN in its `spoilt`-th training."""

    fits = 0

    def __init__(self, lr, spoilt=None):
        super().__init__()
        self.unit = torch.nn.Linear(1, 1)
        self.lr, self.spoilt = lr, spoilt

    def on_fit_start(self):
        type(self).fits += 1

    def training_step(self, batch, _index):
        x, y = batch
        return (self.unit(x)[:, 0] - y).square().mean()

    def validation_step(self, batch, _index):
        x, y = batch
        error = (self.unit(x)[:, 0] - y).abs().mean()
        self.log("val/error", error * float("nan") if self.fits == self.spoilt else error)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)
'''


@dataclass
class Runner:
    """The channel of a trial: records its reports by fold, and asks it to stop; `directory` takes its files."""

    directory: Path
    about: dict[str, Any] = field(default_factory=dict)
    folds: dict[int, Mapping[str, float]] = field(default_factory=dict)
    stop_after_fold: int | None = None
    stop_at_step: int | None = None
    steps: int = 0
    logged: list[str] = field(default_factory=list)

    def run(self, config: dict[str, Any]) -> TrialResult:
        return train_trial(config, channel=self, directory=self.directory)

    def started(self, about: Mapping[str, Any]) -> None:
        assert not self.about
        self.about.update(about)

    def report(self, moment: Moment, metrics: Mapping[str, float]) -> None:
        self.folds[moment.epoch] = metrics

    def log(self, log: Log) -> None:
        self.logged += [name for point in log.points for name in point.metrics]

    def should_stop(self, *, in_epoch: bool) -> bool:
        self.steps += in_epoch
        return self.steps == self.stop_at_step if in_epoch else len(self.folds) == self.stop_after_fold


Config = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def config(compose: Callable[..., DictConfig]) -> Config:
    """Logistic regression on some of the digits by three folds, for five epochs."""

    def make(*overrides: str) -> dict[str, Any]:
        usual = ("model=logistic_regression", "optimizer.lr=0.1", "trainer.max_epochs=5", "data.limit=200", "threads=1")
        return resolved(compose("evaluation.folds=3", "objective=val/acc", "direction=maximize", *usual, *overrides))

    return make


@dataclass
class Trained:
    config: dict[str, Any]
    runner: Runner
    outcome: TrialResult


@pytest.fixture(scope="module")
def trained(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    wanted, runner = config("test=true", "callbacks=lr_monitor"), Runner(tmp_path_factory.mktemp("left"))
    return Trained(wanted, runner, runner.run(wanted))


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    directory = tmp_path / "left"
    directory.mkdir()
    return Runner(directory)


def test_each_fold_is_a_step_with_the_means_so_far_and_its_own_values(trained: Trained):
    folds = trained.runner.folds
    assert list(folds) == [1, 2, 3]
    for name in ("val/acc", "val/loss", "val/f1"):
        own = [metrics[f"fold/{name}"] for metrics in folds.values()]
        assert [metrics[name] for metrics in folds.values()] == [fmean(own[: count + 1]) for count in range(3)]
    own = [metrics["fold/val/acc"] for metrics in folds.values()]
    assert len(set(own)) > 1
    assert [metrics.get("val/acc_std") for metrics in folds.values()] == [None, stdev(own[:2]), stdev(own)]
    assert all(1 <= metrics["fold/best_epoch"] <= 5 for metrics in folds.values())
    assert {"train/acc", "train/loss"} <= set(folds[1])


def test_a_trial_is_worth_the_mean_over_its_folds(trained: Trained):
    assert trained.outcome.values == (trained.runner.folds[3]["val/acc"],)
    assert trained.outcome.best_epoch is None


def test_what_is_logged_by_step_is_recorded_by_fold(trained: Trained):
    logged = {f"{part}/lr-Adam" for part in ("fold-1", "fold-2", "fold-3", "all-folds")}
    assert logged == set(trained.runner.logged)


def test_the_data_are_told_of_with_the_rows_of_all_folds(trained: Trained):
    assert trained.runner.about["sizes"] == {"in 3 folds": 160, "test": 40}
    assert trained.runner.about["parameters"] == 650


def test_the_model_that_is_kept_and_tested_learned_from_all_folds_for_as_long_as_was_best(trained: Trained):
    data = build_data(trained.config)
    assert isinstance(data, InMemoryDataModule)
    saved = load(trained.runner.directory, trained.config["model"])
    whole = data.folded(3)
    assert torch.equal(saved.scaler.scale, whole.scaler.scale)
    outputs, targets = saved.module.outputs(whole.test_dataloader())
    accuracy = float((outputs.argmax(dim=1) == targets).float().mean())
    assert trained.outcome.summary["test/acc"] == pytest.approx(accuracy)

    epochs = round(fmean(metrics["fold/best_epoch"] for metrics in trained.runner.folds.values()))
    model = build_model(trained.config, whole)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    loader = whole.train_dataloader()
    for _ in range(epochs):
        for chunk in loader:
            for x, y in chunk:
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(saved.module.state_dict()[name], tensor, atol=1e-5, rtol=1e-4)


def test_the_same_config_comes_to_the_same_in_every_fold(trained: Trained, runner: Runner):
    outcome = runner.run(trained.config)
    assert runner.folds == trained.runner.folds
    assert outcome == trained.outcome


def test_a_fold_is_what_its_rows_alone_make_it(trained: Trained, runner: Runner, config: Config):
    # The second of two folds, had again without the first: nothing of an earlier fold is left in a later one.
    class Second(InMemoryDataModule):
        def folded(self, count: int, *, held_out: int | None = None) -> Any:
            return super().folded(count, held_out=1 if held_out == 0 else held_out)

    runner.run({**trained.config, "data": {**trained.config["data"], "_target_": _named(Second)}})
    first, own = runner.folds[1], trained.runner.folds[2]
    assert {name: first[name] for name in first if name.startswith("fold/")} == {
        name: own[name] for name in own if name.startswith("fold/")
    }


def _named(kind: type) -> str:
    globals()[kind.__name__] = kind
    kind.__qualname__ = kind.__name__
    return f"{__name__}.{kind.__name__}"


def test_early_stopping_ends_a_fold_and_not_the_trial(config: Config, runner: Runner):
    # Maximizing a loss that falls: no epoch after the first one improves.
    runner.run(config("objective=val/loss", "early_stopping.patience=1", "trainer.max_epochs=50"))
    assert [metrics["fold/best_epoch"] for metrics in runner.folds.values()] == [1, 1, 1]


def test_a_trial_that_is_told_to_stop_ends_after_its_fold(config: Config, runner: Runner):
    runner.stop_after_fold = 2
    with pytest.raises(TrialPruned):
        runner.run(config())
    assert list(runner.folds) == [1, 2]
    assert not list(runner.directory.iterdir())


def test_a_trial_that_is_told_to_stop_at_once_does_not_finish_its_fold(config: Config, runner: Runner):
    runner.stop_at_step = 7
    with pytest.raises(TrialPruned):
        runner.run(config())
    assert list(runner.folds) == [1]


def test_a_test_part_that_is_not_there_is_missed_before_anything_is_trained(config: Config, runner: Runner):
    with pytest.raises(ConfigError, match="test: the data has no test part"):
        runner.run(config("test=true", "data.test_fraction=0"))
    assert not runner.about


def test_several_objectives_are_means_or_costs(config: Config, runner: Runner):
    wanted = {**config(), "objective": ["val/acc", "cost/params", "cost/seconds"]}
    wanted["direction"] = ["maximize", "minimize", "minimize"]
    accuracy, params, seconds = runner.run(wanted).values
    assert (accuracy, params) == (runner.folds[3]["val/acc"], 650)
    assert seconds > 0


def test_a_loss_that_is_not_finite_fails_the_trial_with_its_fold(config: Config, runner: Runner):
    with pytest.raises(
        TrialFailed, match=r"^fold 1: (val/loss is|loss became) (nan|inf).*; lower optimizer\.lr"
    ) as failed:
        runner.run(config("optimizer=sgd", "optimizer.lr=1e38"))
    assert "\n" not in str(failed.value)
    assert not list(runner.directory.iterdir())


# What a user brings along.


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_folds.py").write_text(OWN_DATA + OWN_MODEL)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own")
def test_a_users_own_data_module_is_refused(config: Config, runner: Runner):
    with pytest.raises(ConfigError, match=r"^evaluation\.folds: the rows of own_folds\.Points cannot .*folds=null, or"):
        runner.run({**config(), "data": {"_target_": "own_folds.Points", "rows": 32}})
    assert not runner.about


@pytest.mark.usefixtures("own")
def test_a_users_own_model_is_evaluated_by_folds_and_a_nan_fails_it_in_its_fold(config: Config, runner: Runner):
    ours = config(
        "data=diabetes", "data.limit=60", "objective=val/error", "direction=minimize", "model=linear_regression"
    )
    model = {"_target_": "own_folds.Unit", "lr": 0.001}
    ours = {**ours, "data": {**ours["data"], "source": {"_target_": "besom.data.sources.line"}, "limit": None}}
    outcome = runner.run({**ours, "model": model})
    assert outcome.values == (fmean(metrics["fold/val/error"] for metrics in runner.folds.values()),)
    runner.about.clear()
    with pytest.raises(TrialFailed, match=r"^fold 2: val/error became nan in epoch 1"):
        runner.run({**ours, "model": {**model, "spoilt": 6}})
