"""LightningModules as their users write them, each with one thing that a small network of Besom's has not."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
import torchmetrics
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

Batch = tuple[Tensor, Tensor]


class Points(pl.LightningDataModule):
    """64 points of two classes, in batches of 8."""

    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        x = torch.rand(64, 4, generator=torch.Generator().manual_seed(0))
        self.points = TensorDataset(x, (x.sum(dim=1) > 2).long())

    def train_dataloader(self) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(0)
        return DataLoader(self.points, self.hparams["batch_size"], shuffle=True, generator=generator)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.points, 64)

    test_dataloader = val_dataloader


class Classifier(pl.LightningModule):
    """The module that the others change."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.network: nn.Module = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        return self.measure(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.measure(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.measure(batch, "test")

    def measure(self, batch: Batch, part: str) -> Tensor:
        loss = cross_entropy(self(batch[0]), batch[1])
        self.log(f"{part}/loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=0.01)


class StopsItself(Classifier):
    """Stops by a metric that never improves, if it has a patience."""

    def __init__(self, patience: int | None = None) -> None:
        super().__init__()
        self.patience = patience

    def on_validation_epoch_end(self) -> None:
        self.log("still", 1.0)

    def configure_callbacks(self) -> Any:
        return [] if self.patience is None else [EarlyStopping("still", patience=self.patience)]


class TwoOptimizers(Classifier):
    """Manual optimization, of two networks in turns."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.other = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.network(x))  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.zero_grad()
            self.manual_backward(self.measure(batch, "train"))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [Adam(self.network.parameters(), lr=0.01), Adam(self.other.parameters(), lr=0.1)]


class OneCycle(Classifier):
    """A schedule by step, over all steps of the training."""

    def configure_optimizers(self) -> Any:
        optimizer = Adam(self.parameters())
        scheduler = OneCycleLR(optimizer, 0.1, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_epoch_end(self) -> None:
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])


class Plateau(Classifier):
    """A schedule that watches a metric."""

    def __init__(self, monitor: str = "val/loss") -> None:
        super().__init__()
        self.monitor = monitor

    def configure_optimizers(self) -> Any:
        optimizer = Adam(self.parameters())
        scheduler = ReduceLROnPlateau(optimizer, threshold=1e9, patience=0)  # nothing is good enough
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": self.monitor}}

    on_train_epoch_end = OneCycle.on_train_epoch_end


class BuiltLater(Classifier):
    """A network that `configure_model` builds."""

    def __init__(self) -> None:
        pl.LightningModule.__init__(self)

    def configure_model(self) -> None:
        if not hasattr(self, "network"):
            self.network = nn.Linear(4, 2)


class Compiled(Classifier):
    """A network that `configure_model` compiles; the backend needs no C++ compiler."""

    def configure_model(self) -> None:
        if not hasattr(self.network, "_orig_mod"):  # Lightning calls this for fit and for test
            self.network = torch.compile(self.network, backend="eager")  # type: ignore[assignment]


def whole_compiled() -> Any:
    """Return a module that is compiled as a whole."""
    return torch.compile(Classifier(), backend="eager")


class Template(Classifier):
    """A module as lightning-hydra-template has it, which keeps its optimizer among its hyperparameters."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)

    def configure_optimizers(self) -> Any:
        return self.hparams["optimizer"](params=self.trainer.model.parameters())  # type: ignore[union-attr]

    on_train_epoch_end = OneCycle.on_train_epoch_end


class WithRate(Classifier):
    """A module with a learning rate of its own."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=self.hparams["lr"])

    on_train_epoch_end = OneCycle.on_train_epoch_end


class MetricObjects(Classifier):
    """Metrics of torchmetrics, logged as objects, and one of a collection."""

    def __init__(self) -> None:
        super().__init__()
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=2)
        self.others = torchmetrics.MetricCollection(
            {"f1": torchmetrics.F1Score(task="multiclass", num_classes=2)}, prefix="val/"
        )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        outputs = self(batch[0])
        self.accuracy(outputs, batch[1])
        self.others(outputs, batch[1])
        self.log("val/acc", self.accuracy)
        self.log_dict(self.others)  # type: ignore[arg-type]
        self.log("val/loss", cross_entropy(outputs, batch[1]))


class WritesCheckpoints(Classifier):
    """A module that adds to its checkpoints."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["mine"] = 3

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert checkpoint["mine"] == 3


class Tied(Classifier):
    """Tied weights, a transposed one, buffers, and batch norm with its counter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.second.weight = self.first.weight
        self.transposed = nn.Parameter(torch.rand(4, 4).t())
        self.register_buffer("scale", torch.ones(4))
        self.register_buffer("unsaved", torch.ones(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.norm(self.second(self.first(x @ self.transposed)) * self.scale))  # type: ignore[no-any-return]


class Lazy(Classifier):
    """Layers that take their sizes from the first batch, and one that none reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))
        self.unused = nn.LazyLinear(3)

    def configure_optimizers(self) -> Any:
        return Adam(self.network.parameters(), lr=0.01)


class ExtraState(Classifier):
    """A state beside the weights that is no tensor."""

    def get_extra_state(self) -> Any:
        return {"epoch": self.current_epoch}

    def set_extra_state(self, state: Any) -> None:
        self.restored = state["epoch"]


class FrozenBackbone(Classifier):
    """A module that keeps its frozen weights out of its state, as adapters of large models do."""

    def __init__(self) -> None:
        super().__init__()
        self.strict_loading = False
        self.backbone = nn.Linear(4, 4).requires_grad_(False)

    def state_dict(self, *arguments: Any, **keywords: Any) -> dict[str, Any]:  # type: ignore[override]
        state = super().state_dict(*arguments, **keywords)
        return {name: value for name, value in state.items() if not name.startswith("backbone.")}

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.backbone(x))  # type: ignore[no-any-return]
