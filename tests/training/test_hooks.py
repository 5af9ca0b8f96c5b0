"""A user's own modules: what breaks when they are imported, and what they lack for what was asked."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from besom.config.targets.check import check_targets
from besom.errors import ConfigError
from besom.training.hooks import check_hooks, check_model_keys

MODULE = """
import pytorch_lightning as pl

class Trains(pl.LightningModule):
    def training_step(self, batch, index): ...
    def configure_optimizers(self): ...

class Validates(Trains):
    def validation_step(self, batch, index): ...

class Tests(Validates):
    def test_step(self, batch, index): ...

class Rows(pl.LightningDataModule):
    def train_dataloader(self): ...

class Parts(Rows):
    def val_dataloader(self): ...
    def test_dataloader(self): ...

def made():
    return Trains()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a user is in, from which modules are imported; none of them stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if not getattr(sys.modules[name], "__file__", None) or str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def config(model: str, data: str, objective: str = "val/acc", *, test: bool = False) -> dict[str, Any]:
    return {
        "objective": objective,
        "direction": "maximize",
        "test": test,
        "model": {"_target_": model},
        "data": {"_target_": data},
    }


@pytest.mark.parametrize(
    ("model", "data", "objective", "test", "told"),
    [
        ("Trains", "Parts", "val/acc", False, "model._target_: mine.Trains has no validation_step, which it needs to"),
        ("Validates", "Rows", "val/acc", False, "data._target_: mine.Rows has no val_dataloader, which it needs to"),
        ("Validates", "Parts", "val/acc", True, "model._target_: mine.Validates has no test_step, which it needs to"),
        ("Tests", "Rows", "train/loss", True, "data._target_: mine.Rows has no test_dataloader, which it needs to"),
        ("Rows", "Trains", "train/loss", False, None),
        ("Trains", "Rows", "train/loss", False, None),
        ("Tests", "Parts", "val/acc", True, None),
        ("made", "Parts", "val/acc", True, None),
    ],
)  # fmt: skip
def test_a_hook_that_will_be_called_and_is_not_there_is_named_with_the_remedy(
    folder: Path, model: str, data: str, objective: str, test: bool, told: str | None
):
    (folder / "mine.py").write_text(MODULE, encoding="utf-8")
    asked = config(f"mine.{model}", f"mine.{data}", objective, test=test)
    if told is None:
        check_hooks(asked)
        return
    with pytest.raises(ConfigError) as refused:
        check_hooks(asked)
    assert str(refused.value).startswith(told)
    assert "; add it, or " in str(refused.value)


def test_besoms_own_models_and_data_have_all_hooks():
    check_hooks(config("besom.models.MLPClassifier", "besom.data.InMemoryDataModule", test=True))


@pytest.mark.parametrize(
    ("files", "target", "told"),
    [
        ({"own.py": "a = 1\ndef broken(:\n"}, "own.Data", ": invalid syntax ({}/own.py, line 2); mend it"),
        ({"own.py": "\nimport nothing_of_the_kind\n"}, "own.Data",
         ": ModuleNotFoundError: No module named 'nothing_of_the_kind' ({}/own.py, line 2); mend it"),
        ({"own.py": "import helper\n", "helper.py": "\n\nx = 1 / 0\n"}, "own.Data",
         ": ZeroDivisionError: division by zero ({}/helper.py, line 3); mend it"),
        ({"own/__init__.py": "", "own/data.py": "raise OSError\n"}, "own.data.Data",
         ": OSError: no message ({}/own/data.py, line 1); mend it"),
        ({"own.py": "class Date: ...\n"}, "own.Data", ": own has no Data; did you mean Date? (use one of Date)"),
        ({}, "own.Data", "; check the name and the installation, and look for it in {}"),
        ({}, "torch.optim.Adamm", "; check the name and the installation, and look for it in {}"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_told_with_its_cause_file_and_line(
    folder: Path, files: dict[str, str], target: str, told: str
):
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        check_targets({"data": {"_target_": target}})
    assert str(refused.value) == f"data._target_: {target} cannot be imported{told.format(folder)}"


def test_a_target_that_is_no_name_is_refused():
    with pytest.raises(ConfigError, match=r"^model\._target_: 5 names no class; write such as besom"):
        check_targets({"model": {"_target_": 5}})


@pytest.mark.parametrize(
    ("target", "model", "key", "told"),
    [
        ("besom.models.MLPClassifier", {}, "optimizer.lr", None),
        ("tests.training.real_models.Template", {}, "optimizer", None),
        ("tests.training.real_models.Template", {}, "scheduler", "Template takes no 'scheduler'"),
        ("tests.training.real_models.Template", {"optimizer": {}}, "optimizer.lr", "the model gets model.optimizer"),
    ],
)
def test_a_key_of_a_group_that_the_model_does_not_read_is_refused(
    target: str, model: dict[str, object], key: str, told: str | None
):
    asked = {"model": {"_target_": target, **model}}
    with nullcontext() if told is None else pytest.raises(ConfigError, match=rf"^{key}: .*{told}"):
        check_model_keys(asked, [key])
