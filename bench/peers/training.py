"""One trial as in tutorials: a LightningModule, DataLoaders, torchmetrics, and an MLFlowLogger on SQLite.

Everything that costs time and is not part of the comparison is off: progress bar, model summary, checkpoints.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import MLFlowLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from bench.peers import images
from bench.peers.networks import CLASSES, build_network, build_optimizer, build_scheduler
from bench.peers.side import Settings

EXPERIMENT = "bench"


class Classifier(pl.LightningModule):
    """A network with the metrics of its epochs; `best` is the best validation accuracy so far."""

    def __init__(self, parameters: Mapping[str, Any], features: int, epochs: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = build_network(parameters, features)
        self.train_accuracy = MulticlassAccuracy(CLASSES, average="micro")
        self.val_accuracy = MulticlassAccuracy(CLASSES, average="micro")
        self.best = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return self._measure("train", self.train_accuracy, batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self._measure("val", self.val_accuracy, batch)

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.best = max(self.best, self.val_accuracy.compute().item())

    def configure_optimizers(self) -> Any:
        parameters = self.hparams.parameters
        optimizer = build_optimizer(parameters, self.network)
        scheduler = build_scheduler(parameters, optimizer, self.hparams.epochs)
        return optimizer if scheduler is None else {"optimizer": optimizer, "lr_scheduler": scheduler}

    def _measure(self, part: str, accuracy: MulticlassAccuracy, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        logits = self(x)
        loss = nn.functional.cross_entropy(logits, y)
        accuracy(logits, y)
        self.log(f"{part}/loss", loss, on_step=False, on_epoch=True)
        self.log(f"{part}/acc", accuracy, on_step=False, on_epoch=True)
        return loss


def prepare(folder: Path) -> None:
    """Make the MLflow store of a folder: its tables take seconds, once, and two trials must not both make them."""
    from mlflow import MlflowClient

    MlflowClient(_store(folder)).create_experiment(EXPERIMENT, artifact_location=(folder / "artifacts").as_uri())


def train(parameters: Mapping[str, Any], settings: Settings, *, name: str) -> float:
    """Train and record one trial; return the best validation accuracy of its epochs."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|torch")
    pl.seed_everything(settings.seed)
    train_part, val_part = images.transformed(settings.data)
    size, workers = images.batch_size(settings.data), settings.workers
    model = Classifier(dict(parameters), images.features(settings.data), settings.epochs)
    trainer = pl.Trainer(
        max_epochs=settings.epochs,
        accelerator="cpu",
        devices=1,
        logger=MLFlowLogger(EXPERIMENT, run_name=name, tracking_uri=_store(settings.folder)),
        default_root_dir=settings.folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(
        model,
        DataLoader(train_part, batch_size=size, shuffle=True, num_workers=workers),
        DataLoader(val_part, batch_size=size, num_workers=workers),
    )
    return model.best


def _store(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"
