from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from besom.config.checks import check, resolved
from besom.config.extras.logged import Log
from besom.config.objectives import leading, read_objectives
from besom.config.trainer import ARGUMENTS, WORK
from besom.data import InMemoryDataModule
from besom.errors import ConfigError
from besom.training.best_epoch import BestEpochTracker
from besom.training.fit import Fitted, build_data, fit, set_up
from besom.training.progress import Moment
from tests.running import OWN_DATA

OWN = '''
class Line(pl.LightningModule):
    """One linear unit; counts the batches that it sees."""

    def __init__(self):
        super().__init__()
        self.unit = torch.nn.Linear(1, 1)
        self.batches = {"train": 0, "val": 0}

    def training_step(self, batch, _index):
        self.batches["train"] += 1
        x, y = batch
        loss = (self.unit(x) - y).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, _index):
        self.batches["val"] += not self.trainer.sanity_checking
        x, y = batch
        self.log("val/loss", (self.unit(x) - y).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Swaps(pl.Callback):
    """Measures another weight than the trained one, as the average of an EMA is, and puts that back."""

    def swap(self, module):
        weight = module.unit.weight.data
        self.trained = weight.clone()
        weight.fill_(module.global_step)

    def put_back(self, module):
        module.unit.weight.data.copy_(self.trained)


class SwapsForEpoch(Swaps):
    def on_validation_epoch_start(self, trainer, module):
        self.swap(module)

    def on_validation_epoch_end(self, trainer, module):
        self.put_back(module)


class SwapsForAll(Swaps):
    def on_validation_start(self, trainer, module):
        self.swap(module)

    def on_validation_end(self, trainer, module):
        self.put_back(module)


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        while True:
            yield torch.ones(1), torch.ones(1)


class EndlessPoints(Points):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(Endless(), batch_size=4)
'''


class Reports(dict[int, Mapping[str, float]]):
    """The channel of a trial, with its metrics by epoch, or by step; `moments` has each report's time."""

    about: Mapping[str, Any]

    def __init__(self, *, by_step: bool = False) -> None:
        super().__init__()
        self.by_step = by_step
        self.moments: list[Moment] = []
        self.logs: list[Log] = []

    def started(self, about: Mapping[str, Any]) -> None:
        self.about = about

    def report(self, moment: Moment, metrics: Mapping[str, float]) -> None:
        self.moments.append(moment)
        self[moment.step if self.by_step else moment.epoch] = metrics

    def log(self, log: Log) -> None:
        self.logs.append(log)

    def points(self, name: str) -> list[tuple[int, float]]:
        """The values of a metric by step."""
        found = [point for log in self.logs for point in log.points if name in point.metrics]
        return [(point.step, point.metrics[name]) for point in found]

    def should_stop(self, *, in_epoch: bool) -> bool:
        return False


@dataclass
class Trained:
    """A trial that was trained to its end."""

    fitted: Fitted
    reports: Reports
    folder: Path
    tracker: BestEpochTracker[Any]

    @property
    def trainer(self) -> pl.Trainer:
        return self.fitted.trainer

    @property
    def loop(self) -> str:
        return str(self.reports.about["loop"])


Config = Callable[..., DictConfig]
Train = Callable[..., Trained]


@pytest.fixture
def ours(compose: Config) -> Config:
    """A small network on digits: 17 batches an epoch, 3 epochs."""

    def make(*overrides: str) -> DictConfig:
        return compose("model.width=8", "model.depth=1", "trainer.max_epochs=3", "threads=1", "trainer=cpu", *overrides)

    return make


@pytest.fixture
def theirs(compose: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A module and data of a user's own: 5 batches of 8 an epoch, 3 epochs."""
    (tmp_path / "their_line.py").write_text(OWN_DATA + OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def make(*overrides: str) -> DictConfig:
        config = compose("trainer.max_epochs=3", "threads=1", "trainer=cpu", *overrides)
        config.data = OmegaConf.create({"_target_": "their_line.Points", "rows": 40})
        config.model = OmegaConf.create({"_target_": "their_line.Line"})
        return config

    return make


@pytest.fixture(params=["ours", "theirs"])
def either(request: pytest.FixtureRequest) -> Config:
    made: Config = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def train(tmp_path: Path) -> Train:
    def run(config: DictConfig, *, by_step: bool = False) -> Trained:
        check(config)
        plain = resolved(config)
        set_up(plain)
        reports, folder = Reports(by_step=by_step), tmp_path / "trial" / WORK
        tracker: BestEpochTracker[Any] = BestEpochTracker(leading(read_objectives(plain)), reports)
        return Trained(fit(plain, build_data(plain), tracker, folder, channel=reports), reports, folder, tracker)

    return run


def batches(trained: Trained) -> int:
    """The batches of an epoch's training part."""
    return 17 if isinstance(trained.fitted.data, InMemoryDataModule) else 5


def steps(trained: Trained) -> int:
    return trained.trainer.global_step


def validated(trained: Trained) -> list[int]:
    return [epoch for epoch, metrics in trained.reports.items() if epoch and "val/loss" in metrics]


def by_lightning(trained: Trained) -> bool:
    return trained.loop == "lightning"


def by_usual_loop(trained: Trained) -> bool:
    return trained.loop == ("besom" if isinstance(trained.fitted.data, InMemoryDataModule) else "lightning")


Effect = Callable[[Trained], bool]

EFFECTS: Mapping[str, tuple[str, Effect]] = {
    "accelerator": ("trainer.accelerator=cpu", lambda it: it.trainer.strategy.root_device.type == "cpu"),
    "accumulate_grad_batches": (
        "+trainer.accumulate_grad_batches=5",
        lambda it: by_lightning(it) and steps(it) == 3 * -(-batches(it) // 5),
    ),
    "benchmark": ("+trainer.benchmark=false", lambda it: torch.backends.cudnn.benchmark is False),
    "callbacks": (
        "+trainer.callbacks=[{_target_: pytorch_lightning.callbacks.Timer}]",
        lambda it: any(isinstance(callback, pl.callbacks.Timer) for callback in it.trainer.callbacks),
    ),
    "check_val_every_n_epoch": (
        "+trainer.check_val_every_n_epoch=2",
        lambda it: (
            by_usual_loop(it) and [epoch for epoch in it.reports if epoch and "val/loss" in it.reports[epoch]] == [2]
        ),
    ),
    "default_root_dir": (
        "+trainer.default_root_dir=elsewhere",
        lambda it: it.trainer.default_root_dir.endswith("elsewhere"),
    ),
    "detect_anomaly": ("+trainer.detect_anomaly=true", lambda it: it.trainer._detect_anomaly),
    "deterministic": ("trainer.deterministic=warn", lambda it: torch.is_deterministic_algorithms_warn_only_enabled()),
    "devices": ("trainer.devices=1", lambda it: it.trainer.num_devices == 1),
    "enable_autolog_hparams": (
        "+trainer.enable_autolog_hparams=false",
        lambda it: not it.trainer.enable_autolog_hparams,
    ),
    "enable_checkpointing": (
        "+trainer.enable_checkpointing=true",
        lambda it: len(list(it.folder.rglob("*.ckpt"))) == 1,
    ),
    "enable_model_summary": (
        "+trainer.enable_model_summary=true",
        lambda it: any(isinstance(callback, pl.callbacks.ModelSummary) for callback in it.trainer.callbacks),
    ),
    "enable_progress_bar": (
        "+trainer.enable_progress_bar=true",
        lambda it: it.trainer.progress_bar_callback is not None,
    ),
    "fast_dev_run": (
        "+trainer.fast_dev_run=2",
        lambda it: by_lightning(it) and steps(it) == 2 and max(it.reports) == 1,
    ),
    "gradient_clip_algorithm": (
        "+trainer.gradient_clip_algorithm=value",
        lambda it: by_lightning(it) and it.trainer.gradient_clip_algorithm == "value",
    ),
    "gradient_clip_val": (
        "+trainer.gradient_clip_val=0.0001",
        lambda it: by_lightning(it) and it.trainer.gradient_clip_val == 0.0001,
    ),
    "inference_mode": ("+trainer.inference_mode=false", lambda it: not it.trainer.validate_loop.inference_mode),
    "limit_test_batches": ("+trainer.limit_test_batches=1", lambda it: it.trainer.limit_test_batches == 1),
    "limit_train_batches": ("+trainer.limit_train_batches=2", lambda it: by_lightning(it) and steps(it) == 3 * 2),
    "limit_val_batches": (
        "+trainer.limit_val_batches=1",
        lambda it: by_lightning(it) and it.trainer.num_val_batches == [1],
    ),
    "log_every_n_steps": ("+trainer.log_every_n_steps=7", lambda it: it.trainer.log_every_n_steps == 7),
    "logger": (
        "+trainer.logger=true",
        lambda it: "val/loss" in next(it.folder.rglob("metrics.csv")).read_text(encoding="utf-8"),
    ),
    "max_epochs": ("trainer.max_epochs=2", lambda it: by_usual_loop(it) and max(it.reports) == 2),
    "max_steps": ("+trainer.max_steps=6", lambda it: by_usual_loop(it) and steps(it) == 6),
    "max_time": (
        "trainer.max_time={hours: 1}",
        lambda it: any(isinstance(callback, pl.callbacks.Timer) for callback in it.trainer.callbacks),
    ),
    "min_epochs": ("+trainer.min_epochs=2", lambda it: it.trainer.min_epochs == 2),
    "min_steps": ("+trainer.min_steps=3", lambda it: it.trainer.min_steps == 3),
    "num_sanity_val_steps": ("+trainer.num_sanity_val_steps=0", lambda it: min(it.reports) == 1),
    "overfit_batches": (
        "+trainer.overfit_batches=2",
        lambda it: by_lightning(it) and steps(it) == 3 * 2,
    ),
    "precision": (
        "trainer.precision=bf16-mixed",
        lambda it: by_usual_loop(it) and it.trainer.precision == "bf16-mixed",
    ),
    "profiler": ("+trainer.profiler=simple", lambda it: any(it.folder.glob("*profile*"))),
    "reload_dataloaders_every_n_epochs": (
        "+trainer.reload_dataloaders_every_n_epochs=1",
        lambda it: by_usual_loop(it) and it.trainer.reload_dataloaders_every_n_epochs == 1,
    ),
    "strategy": ("+trainer.strategy=auto", by_usual_loop),
    "sync_batchnorm": (
        "+trainer.sync_batchnorm=true",
        by_usual_loop,
    ),  # one device: tests/workers/test_ranks.py has two
    "use_distributed_sampler": (
        "+trainer.use_distributed_sampler=false",
        lambda it: not it.trainer._accelerator_connector.use_distributed_sampler,
    ),
    "val_check_interval": (
        "+trainer.val_check_interval=0.5",
        lambda it: by_lightning(it) and it.trainer.val_check_batch == batches(it) // 2,
    ),
    "plugins": (
        "+trainer.plugins=[{_target_: pytorch_lightning.plugins.environments.LightningEnvironment}]",
        lambda it: type(it.trainer.strategy).__name__ == "SingleDeviceStrategy",
    ),
}
"""What each argument of the Trainer does: an override, and how its effect shows. `docs/lightning.md` has the words."""

REFUSALS: Mapping[str, tuple[str, str]] = {
    "barebones": ("+trainer.barebones=true", "trainer.barebones: it turns off self.log"),
    "limit_predict_batches": ("+trainer.limit_predict_batches=1", "trainer.limit_predict_batches: a trial makes no"),
    "model_registry": ("+trainer.model_registry=mine", "trainer.model_registry: models are registered in MLflow"),
    "num_nodes": ("+trainer.num_nodes=2", "trainer.num_nodes: a trial trains on one machine"),
}
"""The arguments that would have no effect in a trial, and how they are refused."""

_TOGETHER = {"gradient_clip_algorithm": "+trainer.gradient_clip_val=0.1"}


def test_each_argument_of_the_trainer_has_its_row():
    arguments = {*inspect.signature(pl.Trainer).parameters}
    assert not arguments - {*EFFECTS, *REFUSALS}
    assert not arguments - {*ARGUMENTS}


@pytest.mark.parametrize("argument", EFFECTS)
def test_an_argument_of_the_trainer_has_its_effect(argument: str, either: Config, train: Train):
    override, shows = EFFECTS[argument]
    if argument not in inspect.signature(pl.Trainer).parameters:
        pytest.skip("this Lightning does not have it")
    assert shows(train(either(override, *filter(None, [_TOGETHER.get(argument)]))))


@pytest.mark.parametrize("argument", REFUSALS)
def test_an_argument_without_an_effect_is_refused_by_name(argument: str, either: Config):
    override, message = REFUSALS[argument]
    with pytest.raises(ConfigError, match=re.escape(message)):
        check(either(override))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.max_epochs=-1", "trainer.max_epochs: with -1 training never ends"),
        ("trainer.max_epochs=null", "trainer.max_epochs: with null training never ends"),
        ("trainer.max_epochs=0", "trainer.max_epochs: 0 is below 1"),
        ("+trainer.gradient_clip_algorithm=value", "trainer.gradient_clip_algorithm: nothing is clipped"),
        (
            "+trainer.limit_val_batches=0",
            "trainer.limit_val_batches: 0 leaves nothing to measure the objective val/loss",
        ),
        ("trainer.max_time=soon", "trainer.max_time: 'soon' is no time"),
    ],
)
def test_an_argument_that_cannot_work_is_refused_with_the_remedy(override: str, message: str, either: Config):
    with pytest.raises(ConfigError, match=re.escape(message)):
        check(either(override))


@pytest.mark.parametrize("override", ["+trainer.precision=many", "+trainer.val_check_interval=500"])
def test_what_lightning_refuses_is_one_line_about_the_trainer(override: str, either: Config, train: Train):
    with pytest.raises(ConfigError, match=r"^trainer: [^\n]+$"):
        train(either(override.replace("+trainer.precision", "trainer.precision")))


def test_training_that_ends_before_the_first_validation_is_refused_with_the_remedy(theirs: Config, train: Train):
    with pytest.raises(ConfigError, match=r"objective: 'val/loss' was not measured: .*trainer\.val_check_interval"):
        train(theirs("+trainer.max_steps=4"))


def test_without_a_number_of_epochs_steps_end_the_training(either: Config, train: Train):
    trained = train(either("trainer.max_epochs=-1", "+trainer.max_steps=7"))
    assert steps(trained) == 7


def test_lightnings_loop_computes_what_ours_does_to_the_last_bit(ours: Config, train: Train):
    by_ours = train(ours("scheduler=step", "scheduler.step_size=1", "optimizer=sgd"))
    by_theirs = train(
        ours("scheduler=step", "scheduler.step_size=1", "optimizer=sgd", "+trainer.gradient_clip_val=1e9")
    )
    assert (by_ours.loop, by_theirs.loop) == ("besom", "lightning")
    assert by_ours.reports == by_theirs.reports


def test_a_plateau_scheduler_follows_the_monitor_in_both_loops(ours: Config, train: Train):
    plateau = ("scheduler=plateau", "scheduler.patience=0", "optimizer=sgd", "optimizer.lr=10", "trainer.max_epochs=6")
    by_ours, by_theirs = train(ours(*plateau)), train(ours(*plateau, "+trainer.gradient_clip_val=1e9"))
    rates = [[it.reports[epoch]["train/lr"] for epoch in range(1, 7)] for it in (by_ours, by_theirs)]
    assert rates[0] == rates[1]
    assert rates[0][-1] < 10


def test_clipping_by_the_models_key_and_by_the_trainers_is_the_same(ours: Config, train: Train):
    by_key, by_trainer = train(ours("model.gradient_clip_norm=0.01")), train(ours("+trainer.gradient_clip_val=0.01"))
    assert by_key.reports == by_trainer.reports


def test_the_run_says_which_loop_trained_it_and_why(ours: Config, train: Train):
    about = train(ours("+trainer.accumulate_grad_batches=2", "callbacks=swa")).reports.about
    assert about["loop"] == "lightning"
    assert about["loop_because"] == ["trainer.accumulate_grad_batches", "StochasticWeightAveraging"]


def test_reloaded_loaders_go_on_with_the_order_of_the_rows(ours: Config, train: Train):
    once, anew = train(ours()), train(ours("+trainer.reload_dataloaders_every_n_epochs=1"))
    assert once.reports == anew.reports


def test_with_overfit_batches_every_epoch_trains_on_the_same_rows(ours: Config, train: Train):
    trained = train(ours("+trainer.overfit_batches=1", "optimizer=sgd", "optimizer.lr=0"))
    assert len({metrics["train/loss"] for epoch, metrics in trained.reports.items() if epoch}) == 1


def test_an_epoch_without_a_validation_is_reported_without_its_metrics_and_is_never_the_best(
    either: Config, train: Train
):
    trained = train(either("+trainer.check_val_every_n_epoch=2", "trainer.max_epochs=5"))
    assert validated(trained) == [2, 4]
    assert [epoch for epoch in trained.reports if epoch] == [1, 2, 3, 4, 5]


def moments(trained: Trained) -> list[tuple[int, int, bool]]:
    """Each report with its epoch, its step, and whether the epoch went on; without epoch 0."""
    return [(at.epoch, at.step, at.in_epoch) for at in trained.reports.moments if at.epoch]


def test_each_validation_is_a_report_and_one_at_the_end_of_an_epoch_comes_with_its_training_metrics(
    either: Config, train: Train
):
    trained = train(either("+trainer.val_check_interval=0.5", "trainer.max_epochs=2"), by_step=True)
    half, whole = batches(trained) // 2, batches(trained)
    rest = [] if whole == 2 * half else [whole]  # the last batch of an odd number ends the epoch unvalidated
    steps = [half, 2 * half, *rest]
    assert [step for _, step, _ in moments(trained)] == [*steps, *(whole + step for step in steps)]
    assert [epoch for epoch, _, _ in moments(trained)] == [1] * len(steps) + [2] * len(steps)
    assert [goes_on for *_, goes_on in moments(trained)] == ([True] * (len(steps) - 1) + [False]) * 2
    assert set(trained.reports[half]) == {name for name in trained.reports[half] if name.startswith("val/")}
    assert "train/loss" in trained.reports[whole]
    assert "val/loss" not in trained.reports[whole]


def test_validations_by_steps_alone_go_on_over_the_ends_of_epochs(theirs: Config, train: Train):
    by_steps = ("+trainer.check_val_every_n_epoch=null", "+trainer.val_check_interval=4")
    trained = train(theirs(*by_steps, "trainer.max_epochs=-1", "+trainer.max_steps=13"), by_step=True)
    assert [step for step, metrics in trained.reports.items() if "val/loss" in metrics] == [4, 8, 12]
    assert moments(trained)[-1] == (3, 13, False)


def test_an_endless_data_set_is_one_epoch_whose_validations_are_reported(theirs: Config, train: Train):
    config = theirs("trainer.max_epochs=-1", "+trainer.max_steps=9", "+trainer.val_check_interval=4")
    config.data._target_ = "their_line.EndlessPoints"
    assert moments(train(config)) == [(1, 4, True), (1, 8, True), (1, 9, False)]


def test_the_best_weights_are_those_of_the_best_validation_also_within_an_epoch(theirs: Config, train: Train):
    trained = train(theirs("+trainer.val_check_interval=2", "trainer.max_epochs=2"), by_step=True)
    measured = {step: metrics["val/loss"] for step, metrics in trained.reports.items() if "val/loss" in metrics}
    best = min(measured, key=lambda step: measured[step])
    assert (trained.tracker.step, trained.tracker.metrics["val/loss"]) == (best, measured[best])
    assert len(measured) == 4
    again = train(theirs("trainer.max_epochs=-1", f"+trainer.max_steps={best}", "objective=train/loss"))
    assert torch.equal(trained.fitted.model.unit.weight, again.fitted.model.unit.weight)


@pytest.mark.parametrize("callback", ["SwapsForEpoch", "SwapsForAll"])
@pytest.mark.parametrize("interval", [2, 1.0])
def test_the_best_weights_are_those_that_were_measured_where_a_callback_exchanges_them_for_a_validation(
    theirs: Config, train: Train, callback: str, interval: float
):
    swaps = f"+trainer.callbacks=[{{_target_: their_line.{callback}}}]"
    trained = train(theirs(swaps, f"+trainer.val_check_interval={interval}", "trainer.max_epochs=2"))
    assert trained.tracker.weights["unit.weight"].item() == trained.tracker.step


def test_the_average_of_swa_is_measured_as_one_more_epoch_and_may_be_the_best(theirs: Config, train: Train):
    swa = ("callbacks=swa", "callbacks.swa.swa_epoch_start=2", "callbacks.swa.swa_lrs=0.6")
    trained = train(theirs(*swa, "trainer.max_epochs=4"))
    model, (x, y) = trained.fitted.model, trained.fitted.data.points.tensors
    reports = trained.reports
    assert [(at.epoch, at.in_epoch) for at in reports.moments][-2:] == [(4, False), (5, False)]
    assert set(reports[5]) == {"val/loss"}
    assert reports[5]["val/loss"] != reports[4]["val/loss"]
    best = min(reports[epoch]["val/loss"] for epoch in reports)
    assert (model.unit(x) - y).square().mean().item() == pytest.approx(best, rel=1e-4)


def test_a_checkpoint_of_each_validation_is_the_trainers_own_and_none_is_reported_twice(theirs: Config, train: Train):
    checkpoint = (
        "callbacks=checkpoint",
        "callbacks.checkpoint.filename='{step}'",
        "callbacks.checkpoint.save_top_k=-1",
    )
    by_steps = ("+trainer.check_val_every_n_epoch=null", "+trainer.val_check_interval=4", "+trainer.max_steps=13")
    trained = train(
        theirs(*checkpoint, "callbacks.checkpoint.monitor=val/loss", *by_steps, "trainer.max_epochs=-1"), by_step=True
    )
    assert [step for step, metrics in trained.reports.items() if "val/loss" in metrics] == [4, 8, 12]
    assert isinstance(trained.trainer.checkpoint_callback, pl.callbacks.ModelCheckpoint)
    saved = {path.name for path in trained.folder.rglob("*.ckpt")}
    assert {"step=4.ckpt", "step=8.ckpt", "step=12.ckpt"} <= saved


def test_early_stopping_counts_validations(either: Config, train: Train):
    stuck = ("optimizer=sgd", "optimizer.lr=0", "early_stopping.patience=2", "early_stopping.min_delta=9")
    trained = train(either(*stuck, "+trainer.val_check_interval=2"), by_step=True)
    assert moments(trained)[-1] == (2, 7, False) if batches(trained) == 5 else (1, 6, False)


def test_epoch_0_of_a_users_own_data_is_measured_only_if_asked_for(theirs: Config, train: Train):
    assert min(train(theirs()).reports) == 1
    assert min(train(theirs("+trainer.num_sanity_val_steps=2")).reports) == 1
    assert min(train(theirs("+trainer.num_sanity_val_steps=-1")).reports) == 0
