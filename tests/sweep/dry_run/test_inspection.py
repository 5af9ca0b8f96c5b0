from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from besom.sweep.dry_run.inspection import inspect_modules, names_others
from besom.workers.pool import launch
from tests.fakes import cpu_slots

MODULE = """
import pytorch_lightning as pl

class Own(pl.LightningModule):
    def training_step(self, batch, index): ...
    def configure_optimizers(self): ...
"""


def test_a_worker_says_what_is_wrong_with_a_users_own_modules_each_thing_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_net.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "own_torn.py").write_text("import own_net\ndef broken(:\n", encoding="utf-8")
    (tmp_path / "own_end.py").write_text("import os\nos._exit(3)\n", encoding="utf-8")
    data = {"_target_": "besom.data.InMemoryDataModule"}
    models = ("own_net.Own", "own_torn.Own", "own_net.Own", "own_end.Own")
    asked = {"objective": "val/acc", "direction": "maximize", "test": False, "data": data}
    found = inspect_modules([{**asked, "model": {"_target_": model}} for model in models], cpu_slots(1)[0], launch)
    assert [line.partition(", which")[0] for line in found] == [
        "model._target_: own_net.Own has no validation_step",
        f"model._target_: own_torn.Own cannot be imported: invalid syntax ({tmp_path}/own_torn.py, line 2); mend it",
        "importing what the config names ends the process: the worker exited with code 3",
    ]


def test_a_key_that_the_model_does_not_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_keys.py").write_text(MODULE, encoding="utf-8")
    asked = {"objective": "train/loss", "direction": "minimize", "test": False, "model": {"_target_": "own_keys.Own"}}
    config = {**asked, "data": {"_target_": "besom.data.InMemoryDataModule"}}
    found = inspect_modules([config], cpu_slots(1)[0], launch, model_keys=("optimizer.lr", "scheduler"))
    assert found == [
        "optimizer.lr: own_keys.Own takes no 'optimizer', so that it changes nothing; add this parameter to it, or "
        "leave the key out"
    ]


@pytest.mark.parametrize(
    ("config", "others"),
    [
        ({"model": {"_target_": "besom.models.MLPClassifier"}, "optimizer": {"_target_": "torch.optim.Adam"}}, False),
        ({"model": {"_target_": "net.Own"}}, True),
        ({"trainer": {"callbacks": [{"_target_": "net.Own"}]}}, True),
    ],
)
def test_only_what_is_not_besoms_torchs_or_lightnings_is_looked_at(config: dict[str, object], others: bool):
    assert names_others(OmegaConf.create(config)) == others
