"""Callbacks and loggers that are refused before anything starts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from besom.config.checks import check
from besom.config.extras.artifacts import is_own_file, leads_out
from besom.config.targets.trust import SHIPPED
from besom.errors import ConfigError

Compose = Callable[..., DictConfig]

LIGHTNING = "pytorch_lightning.loggers"
MLFLOW = f"_target_: {LIGHTNING}.MLFlowLogger"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+callbacks.mine=3", r"^callbacks\.mine: '3' names no class; write {_target_: …}$"),
        ("+trainer.logger=[csv]", r"^trainer\.logger\[0\]: 'csv' names no class"),
        ("artifacts=[/etc/*]", r"^artifacts: '/etc/\*' is no pattern within the trial's folder"),
        ("artifacts=[../*]", r"^artifacts: '\.\./\*' is no pattern within"),
        (f"+logger.m={{{MLFLOW}, tracking_uri: x}}", r"^logger\.m\.tracking_uri: .*set tracking\.uri instead$"),
        (f"+logger.m={{{MLFLOW}, log_model: all}}", r"^logger\.m\.log_model: .*artifacts=\[checkpoints/\*\*\]$"),
        (f"+logger.m={{{MLFLOW}, often: 1}}", r"^logger\.m\.often: MLFlowLogger takes no 'often'"),
        (f"+logger.m={{{MLFLOW}, tags: {{besom.trial: 1}}}}", r"^logger\.m\.tags\.besom\.trial: tags of this prefix"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_composed(compose: Compose, override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        check(compose(override))


@pytest.mark.parametrize(
    ("target", "package"),
    [
        (f"{LIGHTNING}.TensorBoardLogger", "tensorboard"),
        (f"{LIGHTNING}.WandbLogger", "wandb"),
        (f"{LIGHTNING}.CometLogger", "comet-ml"),
        (f"{LIGHTNING}.NeptuneLogger", "neptune"),
        ("aim.pytorch_lightning.AimLogger", "aim"),
    ],
)
def test_the_missing_package_of_a_logger_is_named(compose: Compose, target: str, package: str):
    if any((Path(folder) / package.replace("-", "_")).exists() for folder in sys.path):
        pytest.skip(f"{package} is installed")
    with pytest.raises(ConfigError, match=rf"^logger\.it: \w+ needs the package {package}, .*: pip install {package}$"):
        check(compose(f"+logger.it={{_target_: {target}}}"))


def test_lists_of_loggers_and_mlflows_shipped_one_are_accepted(compose: Compose):
    check(compose("logger=[csv,mlflow]", "callbacks=[checkpoint,lr_monitor]", "+logger.mlflow.tags.mood=good"))
    check(compose("logger=none", "artifacts=[csv/**]"))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"callbacks": {"c": {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": "/x"}}}, "dirpath"),
        ({"logger": [{"_target_": f"{LIGHTNING}.CSVLogger", "save_dir": ".", "name": "a/../../b"}]}, "name"),
        ({"trainer": {"default_root_dir": "~/here"}}, "default_root_dir"),
    ],
)
def test_a_recorded_config_may_not_choose_where_files_are_written(change: dict[str, Any], where: str):
    with pytest.raises(ConfigError, match=rf"{where}: .* is outside of the trial's folder, where a recorded"):
        SHIPPED.resolve(change)


def test_paths_and_names_of_artifacts():
    assert [path for path in ("a/b", "a..b", "/a", "a/../b", "~/a", "C:\\a", "\\a") if not leads_out(path)] == [
        "a/b", "a..b",
    ]  # fmt: skip
    paths = ("config.yaml", "./model.json", "code/a.py", "a/config.yaml")
    assert [path for path in paths if not is_own_file(path)] == ["a/config.yaml"]
