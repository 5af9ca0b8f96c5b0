"""A member of a bundle: one trial, with the module, optimizer and best-epoch tracker of its unbundled training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from besom.bundle.optimizers import MemberState
from besom.config.objectives import leading, read_objectives
from besom.config.targets.check import check_targets
from besom.data import InMemoryDataModule
from besom.errors import ConfigError
from besom.models import SupervisedModule
from besom.models.network import MLP
from besom.models.saved import save
from besom.models.weights import state_of
from besom.training.best_epoch import BestEpochTracker, Patience
from besom.training.figure_data import Predictions, write_figure_data
from besom.training.fit import build_model, costs_of, objective_values
from besom.training.progress import Channel, Moment
from besom.training.result import TrialResult


class Member:
    """A trial in a bundle; `tracker` holds its best epoch so far."""

    def __init__(
        self, trial: int, config: Mapping[str, Any], data: InMemoryDataModule, channel: Channel, folder: Path
    ) -> None:
        """Build the module and optimizer as unbundled training does. Raises ConfigError as that does."""
        # As in unbundled training: a user's own module may draw from the global generators.
        pl.seed_everything(config["seed"], workers=True, verbose=False)
        check_targets(config)
        model = build_model(config, data)
        assert isinstance(model, SupervisedModule)
        self.trial = trial
        self.config = config
        self.module = model
        self.channel = channel
        self._folder = folder
        self._objectives = read_objectives(config)
        self.tracker: BestEpochTracker[dict[str, Tensor]] = BestEpochTracker(
            leading(self._objectives), channel, self._objectives
        )
        self._patience = Patience(config["early_stopping"], self.tracker.objective)
        if isinstance(self.network, MLP) and self.network.batch_norm and _has_batch_of_one(data):
            raise ConfigError("model.batch_norm: a batch of one sample has no variance; change data.batch_size")
        configured: Any = self.module.configure_optimizers()
        self.optimizer: Optimizer = configured["optimizer"] if isinstance(configured, dict) else configured
        self._scheduler = configured["lr_scheduler"] if isinstance(configured, dict) else None
        self.optimizer._opt_called = True  # `stepper` takes its steps instead
        self.state: MemberState | None = None

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        return self.module.network

    def end_epoch(self, moment: Moment, metrics: dict[str, float]) -> bool:
        """Report an epoch and step the scheduler; return whether early stopping ends the trial.

        Raises what the tracker raises.
        """
        metrics["train/lr"] = float(self.optimizer.param_groups[0]["lr"])
        if isinstance(self._scheduler, ReduceLROnPlateau):
            monitor = self.module.monitor
            if monitor not in metrics:
                raise ConfigError(f"model.monitor: no metric '{monitor}' was logged; use one of {', '.join(metrics)}")
            self._scheduler.step(metrics[monitor])
        elif self._scheduler is not None:
            self._scheduler.step()
        self.tracker.report(moment, metrics, lambda: state_of(self.module))
        return self._patience.is_over(metrics)

    def complete(self, data: InMemoryDataModule) -> TrialResult:
        """Write the best weights into the member's folder, and return the trial's result."""
        self.module.load_state_dict(self.tracker.best_weights())
        save(self.module, data, self._folder)
        predictions = Predictions.of(self.module, data, self.config)
        write_figure_data(self.module, data, predictions, self.config, self._folder)
        costs = costs_of(self.module)
        return TrialResult(
            values=objective_values(self._objectives, {**self.tracker.metrics, **costs}),
            best_epoch=self.tracker.epoch,
            best_step=self.tracker.step,
            summary=costs,
        )


def device_of(config: Mapping[str, Any]) -> torch.device:
    """Return the device that a resolved config of one device trains on."""
    return torch.device("cuda" if config["trainer"]["accelerator"] == "gpu" else "cpu")


def _has_batch_of_one(data: InMemoryDataModule) -> bool:
    rows = data.sizes["train"]
    size = min(data.batch_size or rows, rows)
    return size == 1 or rows % size == 1
