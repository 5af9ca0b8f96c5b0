from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from besom.config.checks import resolved
from besom.data import InMemoryDataModule
from besom.errors import ConfigError, TrialFailed, TrialPruned
from besom.models import SupervisedModule
from besom.models.saved import load
from besom.system.hardware import processor_name
from besom.training.fit import PACKAGES, build_data, train
from besom.training.progress import Moment
from besom.training.result import TrialResult
from tests.running import OWN_DATA

OWN = '''
class Slope(pl.LightningModule):
    """One linear unit with an optimizer of its own; `spoilt` is the epoch in which its metric becomes NaN."""

    def __init__(self, lr, spoilt=None):
        super().__init__()
        self.unit = torch.nn.Linear(1, 1)
        self.lr, self.spoilt = lr, spoilt

    def training_step(self, batch, _index):
        x, y = batch
        return (self.unit(x) - y).square().mean()

    def validation_step(self, batch, _index):
        x, y = batch
        error = (self.unit(x) - y).abs().mean()
        self.log("val/error", error * float("nan") if self.current_epoch + 1 == self.spoilt else error)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)
'''


@dataclass
class Runner:
    """The channel of a trial: records its reports, and asks it to stop; `directory` takes its files."""

    directory: Path
    about: dict[str, Any] = field(default_factory=dict)
    epochs: list[Mapping[str, float]] = field(default_factory=list)
    stop_after_epoch: int | None = None
    stop_at_step: int | None = None
    steps: int = 0
    first: int | None = None

    def run(self, config: dict[str, Any]) -> TrialResult:
        return train(config, channel=self, directory=self.directory)

    def started(self, about: Mapping[str, Any]) -> None:
        assert not self.epochs
        self.about.update(about)

    def report(self, moment: Moment, metrics: Mapping[str, float]) -> None:
        epoch = moment.epoch
        self.first = epoch if self.first is None else self.first
        assert epoch == self.first + len(self.epochs), "epochs are reported in order"
        self.epochs.append(metrics)

    def log(self, log: object) -> None: ...

    def should_stop(self, *, in_epoch: bool) -> bool:
        if in_epoch:
            self.steps += 1
            return self.steps == self.stop_at_step
        return len(self.epochs) - 1 == self.stop_after_epoch


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    directory = tmp_path / "left"
    directory.mkdir()
    return Runner(directory)


@pytest.fixture
def config(compose: Callable[..., DictConfig]) -> Callable[..., dict[str, Any]]:
    """A small network on digits, for three epochs."""

    def make(*overrides: str) -> dict[str, Any]:
        usual = ("model.width=16", "model.depth=1", "trainer.max_epochs=3", "optimizer.lr=0.01", "threads=1")
        return resolved(compose(*usual, *overrides))

    return make


Config = Callable[..., dict[str, Any]]


def test_a_trial_reports_each_epoch_from_before_the_first_step_and_returns_its_best(config: Config, runner: Runner):
    result = runner.run(config("objective=val/acc", "direction=maximize"))
    assert len(runner.epochs) == 4
    assert set(runner.epochs[0]) == {"val/loss", "val/acc", "val/f1"}
    assert set(runner.epochs[1]) >= {"train/loss", "train/acc", "val/loss", "val/acc"}
    values = [metrics["val/acc"] for metrics in runner.epochs[1:]]
    assert result.values[0] == max(values)
    assert result.best_epoch == 1 + values.index(max(values))
    assert result.summary == {"cost/params": 64 * 16 + 16 + 16 * 10 + 10}


def test_what_was_built_is_told_before_it_trains(config: Config, runner: Runner):
    runner.run(config())
    assert {"data": "digits", "device": f"cpu ({processor_name()})", "threads": 1}.items() <= runner.about.items()
    assert runner.about["parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    assert runner.about["sizes"] == {"train": 1079, "val": 359, "test": 359}
    assert set(runner.about["versions"]) == {"python", *PACKAGES}
    assert len(runner.about["digest"]) >= 32
    assert {"deterministic_algorithms": True, "matmul_precision": "highest"}.items() <= runner.about[
        "determinism"
    ].items()
    assert "cuda" not in runner.about


def test_each_trial_has_the_precision_of_its_products_whatever_the_last_one_had(config: Config, runner: Runner):
    class Listener(Runner):
        def report(self, moment: Moment, metrics: Mapping[str, float]) -> None:
            seen.append(torch.get_float32_matmul_precision())

    seen: list[str] = []
    before_there_was_such_a_key = {key: value for key, value in config().items() if key != "matmul_precision"}
    for wanted in (config("matmul_precision=medium"), before_there_was_such_a_key):
        Listener(runner.directory).run(wanted)
    assert seen == ["medium"] * 4 + ["highest"] * 4


def test_the_weights_that_are_kept_are_those_of_the_best_epoch(config: Config, runner: Runner):
    # Maximizing a loss that falls: the first epoch is the best, the last is what the model ended with.
    wanted = config("objective=val/loss", "direction=maximize")
    result = runner.run(wanted)
    assert (result.best_epoch, len(runner.epochs)) == (1, 4)
    data = build_data(wanted)
    assert isinstance(data, InMemoryDataModule)
    data.setup("fit")
    module = load(runner.directory, wanted["model"]).module
    outputs, targets = module.outputs(data.val_dataloader())
    assert float(module.loss(outputs, targets)) == pytest.approx(result.values[0], rel=1e-6)


def test_a_saved_model_is_no_pickle_and_predicts_what_was_measured(config: Config, runner: Runner):
    wanted = config("objective=val/acc", "direction=maximize", "data.scaling=standard")
    result = runner.run(wanted)
    files = {path.name: path.read_bytes() for path in runner.directory.iterdir()}
    assert set(files) == {"model.safetensors", "model.json", "confusion.json"}
    assert not any(b"cpickle" in content or content[:2] in (b"PK", b"\x80\x02") for content in files.values())
    saved = load(runner.directory, wanted["model"])
    assert isinstance(saved.module, SupervisedModule)
    data = build_data(wanted)
    assert isinstance(data, InMemoryDataModule)
    data.setup("fit")
    x, y = (torch.cat(parts) for parts in zip(*[pair for s in data.val_dataloader() for pair in s], strict=True))
    raw = x * saved.scaler.scale + saved.scaler.shift
    accuracy = (saved.predict(raw).argmax(dim=-1) == y).float().mean()
    assert float(accuracy) == pytest.approx(result.values[0], abs=1 / len(y))


def test_the_same_config_trains_the_same_and_another_seed_does_not(config: Config, tmp_path: Path):
    epochs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        runner = Runner(tmp_path / name)
        runner.run(config(f"seed={seed}", "model.dropout=0.3"))
        epochs.append(runner.epochs)
    assert epochs[0] == epochs[1]
    assert epochs[0] != epochs[2]


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_trial_that_is_told_to_stop_ends_with_the_epoch_it_is_in(config: Config, runner: Runner, epoch: int):
    runner.stop_after_epoch = epoch
    with pytest.raises(TrialPruned):
        runner.run(config("trainer.max_epochs=50"))
    assert len(runner.epochs) == epoch + 1


def test_a_trial_that_is_told_to_stop_at_once_does_not_finish_its_epoch(config: Config, runner: Runner):
    runner.stop_at_step = 1
    with pytest.raises(TrialPruned):
        runner.run(config("trainer.max_epochs=50"))
    assert len(runner.epochs) == 1
    assert not list(runner.directory.iterdir())


def test_several_objectives_are_measured_at_the_best_epoch_of_the_first_that_has_epochs(config: Config, runner: Runner):
    wanted = {**config(), "objective": ["cost/params", "val/acc", "cost/seconds"]}
    wanted["direction"] = ["minimize", "maximize", "minimize"]
    params, accuracy, seconds = runner.run(wanted).values
    assert params == 64 * 16 + 16 + 16 * 10 + 10
    assert accuracy == max(metrics["val/acc"] for metrics in runner.epochs[1:])
    assert seconds > 0


def test_training_stops_early_when_the_objective_no_longer_improves(config: Config, runner: Runner):
    # Maximizing a loss that falls: no epoch after the first one improves.
    overrides = ("direction=maximize", "early_stopping.patience=2", "trainer.max_epochs=50")
    result = runner.run(config(*overrides))
    assert len(runner.epochs) == 1 + 3
    assert result.best_epoch == 1


def test_training_stops_when_its_time_is_up_and_keeps_its_best_epoch(config: Config, runner: Runner):
    result = runner.run(config("trainer.max_epochs=1000000", "trainer.max_time='00:00:00:01'"))
    assert 1 < len(runner.epochs) < 1000000
    assert result.values[0] == min(metrics["val/loss"] for metrics in runner.epochs[1:])


@pytest.mark.parametrize(
    "overrides",
    [("optimizer=sgd", "optimizer.lr=1e30"), ("optimizer=sgd", "optimizer.lr=1e30", "objective=val/acc")],
)
def test_a_loss_that_is_not_finite_fails_the_trial_and_says_what_to_do(
    config: Config, runner: Runner, overrides: tuple[str, ...]
):
    with pytest.raises(TrialFailed, match=r"(loss|val/loss) (became|is) (nan|inf).*lower optimizer\.lr") as failed:
        runner.run(config(*overrides))
    assert "\n" not in str(failed.value)
    assert len(runner.epochs) >= 1


@pytest.mark.parametrize("patience", ["null", "2"])
def test_an_objective_that_is_never_logged_is_refused_with_those_there_are(
    config: Config, runner: Runner, patience: str
):
    with pytest.raises(ConfigError, match=r"objective: 'val/nonsense' is not a metric .*val/acc"):
        runner.run(config("objective=val/nonsense", f"early_stopping.patience={patience}"))


def test_the_test_part_is_measured_once_with_the_best_weights_and_only_when_asked(config: Config, runner: Runner):
    result = runner.run(config("test=true"))
    assert set(result.summary) == {"test/loss", "test/acc", "test/f1", "cost/params"}
    assert all("test/loss" not in metrics for metrics in runner.epochs)


def test_asking_for_a_test_part_that_is_not_there_is_refused(config: Config, runner: Runner):
    with pytest.raises(ConfigError, match="test: the data has no test part"):
        runner.run(config("test=true", "data.test_fraction=0"))


def test_more_devices_than_the_slot_has_are_refused_with_the_key_that_gives_them(config: Config, runner: Runner):
    with pytest.raises(ConfigError, match=r"trainer\.devices: 2 device.* slot of 1; .*sweeper\.devices_per_trial=2"):
        runner.run(config("trainer.devices=2"))


# What a user brings along.

SEVERAL = """
class Twice(Points):
    def val_dataloader(self):
        return [super().val_dataloader()] * 2

    test_dataloader = val_dataloader


class Two(Slope):
    def validation_step(self, batch, index, dataloader_idx):
        super().validation_step(batch, index)

    def test_step(self, batch, index, dataloader_idx):
        self.log("test/error", dataloader_idx)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config) -> Callable[..., dict[str, Any]]:
    """A config for a data module and a model of the user's own."""
    (tmp_path / "own_parts.py").write_text(OWN_DATA + OWN + SEVERAL)
    monkeypatch.syspath_prepend(tmp_path)

    def make(*overrides: str, **model: Any) -> dict[str, Any]:
        return {
            **config("objective=val/error", *overrides),
            "data": {"_target_": "own_parts.Points", "rows": 32},
            "model": {"_target_": "own_parts.Slope", "lr": 0.1, **model},
        }

    return make


def test_a_users_own_data_and_model_train_like_ours(own: Callable[..., dict[str, Any]], runner: Runner):
    result = runner.run(own("trainer.max_epochs=5"))
    errors = [metrics["val/error"] for metrics in runner.epochs]
    assert len(errors) == 5
    assert result.values[0] == min(errors) < errors[0]
    assert runner.about["parameters"] == 2
    assert "digest" not in runner.about
    assert {path.name for path in runner.directory.iterdir()} == {"model.safetensors"}


def test_each_dataloader_of_a_part_has_metrics_of_its_own(own: Callable[..., dict[str, Any]], runner: Runner):
    config = own("test=true", "objective=val/error/dataloader_idx_1", "trainer.max_epochs=1")
    config["data"]["_target_"], config["model"]["_target_"] = "own_parts.Twice", "own_parts.Two"
    result = runner.run(config)
    assert {"val/error/dataloader_idx_0", "val/error/dataloader_idx_1"} <= set(runner.epochs[0])
    measured = {name: value for name, value in result.summary.items() if name.startswith("test/")}
    assert measured == {"test/error/dataloader_idx_0": 0.0, "test/error/dataloader_idx_1": 1.0}


def test_a_users_own_model_takes_our_data_batch_by_batch_and_repeats_from_its_seed(
    own: Callable[..., dict[str, Any]], config: Config, runner: Runner
):
    ours = config("data=line", "data.val_fraction=0.4", "data.batch_size=2")["data"]
    trained = {**own("trainer.max_epochs=2", lr=0.001), "data": ours}
    runner.run(trained)
    first = runner.epochs.copy()
    runner.epochs.clear()
    runner.run(trained)
    assert runner.epochs == first
    assert runner.about["sizes"] == {"train": 6, "val": 4, "test": 0}


def test_a_users_own_objective_that_becomes_nan_fails_the_trial_with_its_epoch(
    own: Callable[..., dict[str, Any]], runner: Runner
):
    with pytest.raises(TrialFailed, match=r"val/error became nan in epoch 2"):
        runner.run(own("trainer.max_epochs=5", spoilt=2))
    assert math.isnan(runner.epochs[1]["val/error"])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("+optimizer.momentun=0.9", r"optimizer\.momentun: torch\.optim\.Adam takes no 'momentun'; use one of"),
        ("+model.widht=3", r"model\.widht: besom\.models\.MLPClassifier takes no 'widht'; did you mean width\?"),
        ("+trainer.max_epoch=3", r"trainer\.max_epoch: .* takes no 'max_epoch'; did you mean max_epochs\?"),
        ("+data.source.rows=3", r"data\.source\.rows: besom\.data\.sources\.digits takes no 'rows'"),
    ],
)
def test_a_key_that_its_target_does_not_take_is_refused_by_name(
    config: Config, runner: Runner, override: str, told: str
):
    with pytest.raises(ConfigError, match=told):
        runner.run(config(override))


@pytest.mark.parametrize(
    ("group", "target", "told"),
    [
        ("data", "builtins.dict", r"data\._target_: builtins\.dict is not a LightningDataModule"),
        ("model", "builtins.dict", r"model\._target_: builtins\.dict is not a LightningModule"),
        ("data", "nosuch.Data", r"nosuch\.Data cannot be imported"),
        ("model", "nosuch.Model", r"nosuch\.Model cannot be imported"),
        ("optimizer", "torch.optim.NoSuch", r"torch\.optim\.NoSuch cannot be imported"),
    ],
)
def test_a_target_that_is_not_what_it_should_be_is_refused_by_name(
    config: Config, runner: Runner, group: str, target: str, told: str
):
    with pytest.raises(ConfigError, match=told):
        runner.run({**config(), group: {"_target_": target}})
