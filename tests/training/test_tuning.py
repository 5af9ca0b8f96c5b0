"""Tuning by Lightning's Tuner: what is found, which key takes it, and that the training is one with that value."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from besom.config.checks import check, resolved
from besom.config.tuning import with_tuned
from besom.errors import ConfigError
from besom.training.folds import train_trial
from tests.training.test_trainer import Reports

MODELS = "tests.training.real_models"
OTHER = """
import lightning as L, torch
from torch.utils.data import DataLoader, TensorDataset

class Points(L.LightningDataModule):
    def __init__(self, batch_size=8):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(64, 4), torch.ones(64).long()), self.batch_size)

    val_dataloader = train_dataloader
"""


@pytest.fixture
def config(compose: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """A small network on digits; with a target, a model of a user's own on its data."""

    def make(*overrides: str, target: str | None = None, **model: Any) -> DictConfig:
        config = compose(
            "model.width=8", "model.depth=1", "trainer.max_epochs=2", "threads=1", "trainer=cpu", *overrides
        )
        if target is not None:
            config.data = OmegaConf.create({"_target_": f"{MODELS}.Points"})
            config.model = OmegaConf.create({"_target_": f"{MODELS}.{target}", **model})
        return config

    return make


Config = Callable[..., DictConfig]


def run(config: dict[str, Any], folder: Path) -> Reports:
    check(config)
    folder.mkdir()
    reports = Reports()
    train_trial(config, channel=reports, directory=folder)
    return reports


def test_a_learning_rate_is_found_and_the_training_is_the_one_that_has_it_in_its_config(config: Config, tmp_path: Path):
    asked = resolved(config("tune=lr", "model.dropout=0.2", "tune.max_lr=0.5"))
    tuned = run(asked, tmp_path / "tuned")
    found = tuned.about["tuned"]
    assert (found["key"], found["by"]) == ("optimizer.lr", "lr_find")
    assert 1e-4 < found["value"] < 0.5
    curve = json.loads((tmp_path / "tuned/lr_find.json").read_text())
    assert curve["found"] == found["value"]
    assert found["value"] in curve["lr"]
    assert len(curve["loss"]) > 50
    assert tuned == run(with_tuned(asked, found["key"], found["value"]), tmp_path / "again")
    assert tuned == run(asked, tmp_path / "searched again")


@pytest.mark.parametrize(
    ("target", "model", "key"),
    [
        ("WithRate", {"lr": 1e-7}, "model.lr"),
        ("Template", {"optimizer": {"_target_": "torch.optim.Adam", "_partial_": True}}, "model.optimizer.lr"),
        ("Template", {}, "optimizer.lr"),
    ],
)
def test_a_users_module_is_tuned_by_the_key_that_it_reads(
    config: Config, tmp_path: Path, target: str, model: dict[str, Any], key: str
):
    reports = run(resolved(config("tune=lr", target=target, **model)), tmp_path / "trial")
    assert reports.about["tuned"]["key"] == key
    assert reports[1]["lr"] == pytest.approx(reports.about["tuned"]["value"])


def test_the_batch_size_grows_until_memory_or_the_data_is_used_up(config: Config, tmp_path: Path):
    ours = run(resolved(config("tune=batch_size")), tmp_path / "ours")
    assert ours.about["tuned"] == {"key": "data.batch_size", "value": 2048, "by": "scale_batch_size"}  # 1,079 rows
    few = run(resolved(config("tune=batch_size", "tune.max_trials=3", target="Classifier")), tmp_path / "few")
    assert few.about["tuned"]["value"] == 8


def test_a_data_module_of_lightnings_other_package_is_tuned_too(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "other_points.py").write_text(OTHER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    asked = config("tune=batch_size", target="Classifier")
    asked.data._target_ = "other_points.Points"
    assert run(resolved(asked), tmp_path / "trial").about["tuned"]["value"] == 64


@pytest.mark.parametrize(
    ("overrides", "target", "line"),
    [
        (
            ["tune=lr"],
            "Classifier",
            r"^tune: neither model\.lr nor .* would be read by .*Classifier and .*set tune\.key",
        ),
        (["tune=lr", "tune.key=optimizer.lr"], "TwoOptimizers", r"^tune: [^\n]*returned 2[^\n]*single optimizer"),
        (["tune=lr", "tune.key=rate"], "Classifier", r"^tune\.key: 'rate' is no key of the config; name one"),
        (
            ["tune=lr", "+tune.minlr=1"],
            "Template",
            r"^tune\.minlr: Tuner\.lr_find takes no 'minlr'; did you mean min_lr",
        ),
        (["tune=lr", "+tune.attr_name=x"], "Template", r"^tune\.attr_name: Tuner\.lr_find takes no 'attr_name'"),
        (["tune=lr", "tune.mode=slow"], "Template", r"^tune: [^\n]*mode"),
        (["tune=lr", "tune.num_training=4"], "Template", r"^tune: no learning rate stands out after \d+ steps; raise"),
    ],
)
def test_what_cannot_be_tuned_is_refused_in_one_line(
    config: Config, tmp_path: Path, overrides: list[str], target: str, line: str
):
    with pytest.raises(ConfigError, match=line):
        run(resolved(config(*overrides, target=target)), tmp_path / "trial")
