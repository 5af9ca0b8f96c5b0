"""`besom.PruningCallback` in a real Trainer."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import besom
from besom.errors import ConfigError
from besom.hydra_app.callback import PruningCallback
from besom.hydra_app.report import reporting
from tests.hydra_app.test_report import Listener


def module(pl: Any) -> Any:
    class Theirs(pl.LightningModule):  # type: ignore[misc]
        """A module that logs val/acc in its own last hook, after the ordinary callbacks."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch: Any, index: int) -> Any:
            return (self.weight - batch.mean()) ** 2

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val/loss", 1.0)
            if self.current_epoch >= 2:
                self.log("val/late", float(self.current_epoch + 1))

        def on_train_epoch_end(self) -> None:
            self.log("val/acc", (self.current_epoch + 1) / 10)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Theirs()


def fit(pl: Any, callback: Any, folder: Path, resumes: Path | None = None, **options: Any) -> Any:
    loader = torch.utils.data.DataLoader(torch.ones(4, 1))
    trainer = pl.Trainer(
        accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, **{"max_epochs": 3, "enable_checkpointing": False, **options},
    )  # fmt: skip
    trainer.fit(module(pl), loader, loader, ckpt_path=resumes)
    return trainer


@pytest.mark.parametrize("name", ["pytorch_lightning", "lightning.pytorch"])
def test_each_epoch_is_reported_with_what_the_module_logged_last(name: str, tmp_path: Path) -> None:
    pl, listener = importlib.import_module(name), Listener()
    with reporting(_Patient(listener), metric="value"):
        fit(pl, besom.PruningCallback(monitor="val/acc"), tmp_path)
    assert [(step, round(metrics["val/acc"], 6)) for step, metrics in listener.heard] == [(1, 0.1), (2, 0.2), (3, 0.3)]


@pytest.mark.parametrize("name", ["pytorch_lightning", "lightning.pytorch"])
def test_training_ends_in_the_epoch_in_which_the_sweep_says_so(name: str, tmp_path: Path) -> None:
    pl, listener = importlib.import_module(name), Listener(stop_at=2)
    with reporting(_Patient(listener), metric="value"), pytest.raises(besom.TrialPruned):
        fit(pl, PruningCallback("val/acc"), tmp_path, max_epochs=100)
    assert [step for step, _ in listener.heard] == [1, 2]


class _Patient:
    """A channel that never requests a stop between steps."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.report = listener.report
        self.started = listener.started

    def should_stop(self, *, in_epoch: bool) -> bool:
        return not in_epoch and self._listener.should_stop(in_epoch=False)


class _Hurried(_Patient):
    def should_stop(self, *, in_epoch: bool) -> bool:
        return True


def test_training_ends_between_two_steps_when_it_is_urgent(tmp_path: Path) -> None:
    import pytorch_lightning as pl

    listener = Listener()
    with reporting(_Hurried(listener), metric="value"), pytest.raises(besom.TrialPruned):
        fit(pl, PruningCallback("val/acc"), tmp_path)
    assert listener.heard == []


def test_outside_a_sweep_training_goes_on_whatever_is_logged(tmp_path: Path) -> None:
    import pytorch_lightning as pl

    trainer = fit(pl, PruningCallback("never/logged"), tmp_path)
    assert trainer.current_epoch == 3


def test_app_keeps_its_own_checkpoints(tmp_path: Path) -> None:
    import pytorch_lightning as pl

    trainer = fit(pl, PruningCallback("val/acc"), tmp_path, enable_checkpointing=True)
    assert isinstance(trainer.checkpoint_callback, pl.callbacks.ModelCheckpoint)
    assert list(tmp_path.rglob("*.ckpt"))


def test_metric_that_is_never_logged_is_refused_with_those_that_are(tmp_path: Path) -> None:
    import pytorch_lightning as pl

    said = r"'val/accuracy' is not logged; use val/acc, val/late, val/loss"
    for options in ({}, {"check_val_every_n_epoch": None, "val_check_interval": 2}):
        with reporting(_Patient(Listener()), metric="value"), pytest.raises(ConfigError, match=said):
            fit(pl, PruningCallback("val/accuracy"), tmp_path, **options)


@pytest.mark.parametrize("name", ["pytorch_lightning", "lightning.pytorch"])
def test_epochs_without_validation_report_nothing_of_the_last_one_again(name: str, tmp_path: Path) -> None:
    pl, listener = importlib.import_module(name), Listener()
    with reporting(_Patient(listener), metric="val/loss"):
        fit(pl, PruningCallback("val/loss"), tmp_path, check_val_every_n_epoch=2, max_epochs=5)
    assert [(step, metrics["val/loss"]) for step, metrics in listener.heard] == [(2, 1.0), (4, 1.0)]


@pytest.mark.parametrize("checkpoints", [False, True])
def test_validations_within_an_epoch_are_reported_once_by_their_training_step(
    checkpoints: bool, tmp_path: Path
) -> None:
    import pytorch_lightning as pl

    listener = Listener()
    with reporting(_Patient(listener), metric="val/loss"):
        fit(
            pl, PruningCallback("val/loss"), tmp_path, max_epochs=-1, max_steps=9, val_check_interval=3,
            check_val_every_n_epoch=None, enable_checkpointing=checkpoints,
        )  # fmt: skip
    assert [step for step, _ in listener.heard] == [3, 6, 9]


def test_each_further_fit_of_a_job_counts_on_and_one_that_is_continued_goes_on(tmp_path: Path) -> None:
    import pytorch_lightning as pl

    listener = Listener()
    with reporting(_Patient(listener), metric="val/loss"):
        fit(pl, PruningCallback("val/loss"), tmp_path, max_epochs=2)
        callback = PruningCallback("val/loss")
        trainer = fit(pl, callback, tmp_path, check_val_every_n_epoch=2, max_epochs=2)
        trainer.save_checkpoint(tmp_path / "half.ckpt")
        fit(pl, callback, tmp_path, max_epochs=2)
    assert [step for step, _ in listener.heard] == [1, 2, 4, 5, 6]

    listener = Listener()
    with reporting(_Patient(listener), metric="val/loss"):
        fit(pl, PruningCallback("val/loss"), tmp_path, max_epochs=2)
        fit(pl, PruningCallback("val/loss"), tmp_path, max_epochs=4, resumes=tmp_path / "half.ckpt")
    assert [step for step, _ in listener.heard] == [1, 2, 3, 4]


def test_metric_that_only_some_validations_log_is_waited_for(tmp_path: Path) -> None:
    import pytorch_lightning as pl

    listener = Listener()
    with reporting(_Patient(listener), metric="val/late"):
        fit(pl, PruningCallback("val/late"), tmp_path, max_epochs=4)
    assert [(step, metrics["val/late"]) for step, metrics in listener.heard] == [(3, 3.0), (4, 4.0)]


@pytest.mark.parametrize(
    ("objective", "told"), [("value", ["val/acc", "val/loss", "value"]), ("val/loss", ["val/acc", "val/loss"])]
)
def test_what_the_callback_follows_is_the_objective_where_that_has_no_name(
    objective: str, told: list[str], tmp_path: Path
) -> None:
    import pytorch_lightning as pl

    listener = Listener()
    with reporting(_Patient(listener), metric=objective):
        fit(pl, PruningCallback("val/acc"), tmp_path, max_epochs=1)
    ((_, metrics),) = listener.heard
    assert sorted(metrics) == told
    assert metrics["val/acc"] == metrics.get("value", metrics["val/acc"])


def test_callback_belongs_to_every_lightning_that_is_imported() -> None:
    callback = PruningCallback("val/acc")
    assert isinstance(callback, PruningCallback)
    for name in ("pytorch_lightning", "lightning.pytorch"):
        if name in sys.modules:
            assert isinstance(callback, importlib.import_module(name).Callback)


def test_callback_can_be_copied_and_sent_to_other_processes() -> None:
    for again in (copy.deepcopy(PruningCallback("val/acc")), pickle.loads(pickle.dumps(PruningCallback("val/acc")))):
        assert isinstance(again, PruningCallback)
        assert again.monitor == "val/acc"
