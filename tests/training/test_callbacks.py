"""Callbacks and loggers of a config, and modules of Lightning's other package."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from besom.config.checks import resolved
from besom.errors import ConfigError
from besom.training.fit import train
from tests.running import OWN_DATA
from tests.training.test_trainer import OWN, Reports

Config = Callable[..., DictConfig]

SHIPPED = ("early_stopping", "checkpoint", "lr_monitor", "model_summary", "device_stats", "swa")


@pytest.fixture
def small(compose: Config) -> Config:
    def make(*overrides: str) -> DictConfig:
        return compose("model.width=8", "model.depth=1", "trainer.max_epochs=3", "threads=1", "trainer=cpu", *overrides)

    return make


def run(config: DictConfig, directory: Path) -> Reports:
    directory.mkdir()
    reports = Reports()
    train(resolved(config), channel=reports, directory=directory)
    return reports


def test_the_shipped_callbacks_and_loggers_write_into_the_trials_own_folder(small: Config, tmp_path: Path):
    without_psutil = "callbacks.device_stats.cpu_stats=false"
    run(small(f"callbacks=[{','.join(SHIPPED)}]", without_psutil, "logger=csv"), tmp_path / "trial")
    written = {path.relative_to(tmp_path / "trial" / ".work").as_posix() for path in tmp_path.rglob(".work/**/*.*")}
    assert {"csv/metrics.csv", "checkpoints/epoch=2.ckpt"} <= written
    assert "lr-Adam" in (tmp_path / "trial/.work/csv/metrics.csv").read_text(encoding="utf-8")


def test_early_stopping_by_another_metric_ends_the_training(small: Config, tmp_path: Path):
    stop = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer=sgd", "optimizer.lr=0")
    assert max(run(small(*stop), tmp_path / "trial")) == 2


def test_besoms_early_stopping_stops_beside_that_of_a_callback_and_of_the_module(compose: Config, tmp_path: Path):
    def epochs(folder: str, *overrides: str, own: int | None = None) -> int:
        config = compose("trainer.max_epochs=9", "threads=1", "trainer=cpu", "early_stopping.min_delta=9", *overrides)
        config.data = OmegaConf.create({"_target_": "tests.training.real_models.Points"})
        config.model = OmegaConf.create({"_target_": "tests.training.real_models.StopsItself", "patience": own})
        return max(run(config, tmp_path / folder))

    both = ("callbacks=early_stopping", "callbacks.early_stopping.monitor=still")
    assert epochs("own", "early_stopping.patience=4", own=2) == 3
    assert epochs("besom", "early_stopping.patience=2", own=4) == 3
    assert epochs("callback", *both, "callbacks.early_stopping.patience=2", "early_stopping.patience=4") == 3
    assert epochs("not the callback", *both, "early_stopping.patience=2") == 3
    with pytest.raises(ConfigError, match=r"^callbacks: StopsItself\.configure_callbacks returns .*; drop"):
        epochs("replaced", *both, own=2)


def test_an_entry_that_is_null_is_left_out(small: Config, tmp_path: Path):
    assert max(run(small("callbacks=early_stopping", "callbacks.early_stopping=null"), tmp_path / "trial")) == 3


def test_epochwise_callbacks_leave_besoms_loop_to_its_models_and_stepwise_ones_do_not(small: Config, tmp_path: Path):
    epochwise = run(small("callbacks=[early_stopping,checkpoint,lr_monitor]", "logger=csv"), tmp_path / "one")
    stepwise = run(
        small("callbacks=lr_monitor", "callbacks.lr_monitor.logging_interval=step", "logger=csv"), tmp_path / "other"
    )
    assert (epochwise.about["loop"], stepwise.about["loop"]) == ("besom", "lightning")
    assert [epochwise[epoch]["val/loss"] for epoch in range(4)] == [stepwise[epoch]["val/loss"] for epoch in range(4)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+callbacks.mine=3"], r"^callbacks\.mine: '3' names no class; write {_target_: …}$"),
        (
            ["+callbacks.mine._target_=torch.nn.ReLU"],
            r"^callbacks\.mine\._target_: torch\.nn\.ReLU is not a Callback of",
        ),
        (
            ["callbacks=checkpoint", "+callbacks.checkpoint.often=1"],
            r"^callbacks\.checkpoint\.often: .* takes no 'often'",
        ),
        (["callbacks=checkpoint", "callbacks.checkpoint.save_top_k=-7"], r"^callbacks\.checkpoint: [^\n]+save_top_k"),
        (
            ["callbacks=checkpoint", "+trainer.enable_checkpointing=false"],
            r"^trainer\.enable_checkpointing: it is false, and callbacks have a ModelCheckpoint",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line_that_names_it(
    small: Config, tmp_path: Path, overrides: list[str], message: str
):
    with pytest.raises(ConfigError, match=message):
        run(small(*overrides), tmp_path / "trial")


@pytest.mark.parametrize(("logger", "package"), [("tensorboard", "tensorboard"), ("wandb", "wandb")])
def test_a_logger_whose_package_is_missing_says_so(
    small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logger: str, package: str
):
    if any((Path(folder) / package).exists() for folder in sys.path):
        pytest.skip(f"{package} is installed")
    with pytest.raises(ConfigError, match=rf"^logger\.{logger}: [^\n]*{package}"):
        run(small(f"logger={logger}"), tmp_path / "trial")


@pytest.mark.parametrize(
    ("data", "model"), [("other", "other"), ("other", "usual"), ("usual", "other"), ("ours", "other")]
)
def test_modules_of_either_package_of_lightning_train_together(
    small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, model: str
):
    source = OWN_DATA + OWN
    (tmp_path / "usual_parts.py").write_text(source, encoding="utf-8")
    (tmp_path / "other_parts.py").write_text(source.replace("import pytorch_lightning", "import lightning.pytorch"))
    monkeypatch.syspath_prepend(tmp_path)
    config = small("data=line", "data.val_fraction=0.4", "callbacks=[early_stopping,checkpoint]", "logger=csv")
    config.model = OmegaConf.create({"_target_": f"{model}_parts.Line"})
    if data != "ours":
        config.data = OmegaConf.create({"_target_": f"{data}_parts.Points", "rows": 40})
    reports = run(config, tmp_path / "trial")
    assert max(reports) == 3
    assert all("val/loss" in reports[epoch] for epoch in (1, 2, 3))
