"""Supervised training of any network, as fast as a hand-written loop.

Lightning calls `training_step` once per item of the loader, and that call costs as much as a small model's whole step.
Hence the loop over batches is here: the loader yields chunks (`besom.data.Batches`, up to 128 batches), optimization is
manual, and metrics are computed once per epoch from the outputs kept on the device. A DataLoader of ordinary (x, y)
batches works the same way, one batch at a time.

Where the Trainer must see each step, as for gradient accumulation, Lightning's own loop trains the module: with plain
batches and automatic optimization.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TypeAlias, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import LRSchedulerConfigType, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from besom.data.dataset import DataSpec
from besom.errors import ConfigError
from besom.models.distributed import agreed, rows_of_all_ranks, sum_over_ranks
from besom.models.evaluating import Chunk, Pair, batches, concatenate, evaluating
from besom.models.over_ranks import backward_over_ranks, join_ranks
from besom.models.scoring import LOSSES, finite, probabilities, scores

MakeOptimizer: TypeAlias = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler: TypeAlias = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]


class SupervisedModule(pl.LightningModule):
    """Trains `network` on the task of `spec`; logs `train/`, `val/` and `test/` metrics once per epoch.

    The metrics are those of `besom.config.objectives.metric_names` over all samples of the part (train: from the
    outputs during training, each with the parameters of its step), and `train/lr`, the learning rate used in the epoch.
    The scheduler steps once per epoch; ReduceLROnPlateau by `monitor`, in the epochs that measure it.
    `gradient_clip_norm` bounds the 2-norm of the gradient over all parameters, per step.

    On several devices, each rank trains on its piece of each batch (see `besom.data.Batches`), and evaluates the whole
    validation part: except for batch norm and dropout, the result is that of one device.

    After `use_lightnings_loop`, Lightning optimizes and steps the scheduler, by its Trainer's arguments.

    Raises TrialFailed when a loss is not finite: checked once per chunk, or per epoch in Lightning's loop, because each
    access to the loss waits for the device. Raises ConfigError for a trainer under which this loop would train wrongly.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        spec: DataSpec,
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None = None,
        monitor: str = "val/loss",
        gradient_clip_norm: float | None = None,
    ) -> None:
        super().__init__()
        if gradient_clip_norm is not None and not gradient_clip_norm > 0:
            raise ConfigError(f"model.gradient_clip_norm: {gradient_clip_norm} is not above 0; use null for none")
        self.automatic_optimization = False
        self.network = network
        self.spec = spec
        self.loss = LOSSES[spec.task]
        self.monitor = monitor
        self.gradient_clip_norm = gradient_clip_norm
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler
        self._seen: dict[str, list[Pair]] = defaultdict(list)
        self._losses: list[tuple[Tensor, int]] = []  # in Lightning's loop: each batch's loss and its rows
        self._loss_sum = 0.0
        self._lr = 0.0
        self._validated = False

    def use_lightnings_loop(self) -> None:
        """Let Lightning optimize: `training_step` takes one (x, y) batch and returns its loss."""
        self.automatic_optimization = True

    def forward(self, x: Tensor) -> Tensor:
        """Return values [b, 1] or logits [b, out] for inputs [b, ...]."""
        outputs: Tensor = self.network(x)
        return outputs

    def predict(self, x: Tensor) -> Tensor:
        """Return predictions for inputs [b, ...], in evaluation mode and without gradients.

        Regression: values [b]. Binary: the probability of `spec.classes[1]` [b]. Multiclass: the probability
        of each class [b, classes].
        """
        with evaluating(self):
            return probabilities(self.spec.task, self(x.to(self.device)))

    def outputs(self, loader: Iterable[Chunk]) -> Pair:
        """Return (outputs [n, out], targets [n]) over all samples of a loader, on the module's device.

        In evaluation mode and without gradients. Raises ValueError if the loader is empty.
        """
        with evaluating(self):
            parts = (pair for chunk in loader for pair in batches(chunk))
            return concatenate([(self(x.to(self.device)), y.to(self.device)) for x, y in parts])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer, and the scheduler on it."""
        optimizer = self._make_optimizer(self.parameters())
        if self._make_scheduler is None:
            return optimizer
        scheduler = self._make_scheduler(optimizer)
        if not self.automatic_optimization:
            return {"optimizer": optimizer, "lr_scheduler": scheduler}
        every = self.trainer.check_val_every_n_epoch or 1 if self.monitor.startswith("val/") else 1
        return {"optimizer": optimizer, "lr_scheduler": _for_lightnings_loop(scheduler, self.monitor, every=every)}

    def setup(self, stage: str) -> None:
        """Clear what an interrupted run left; refuse a trainer that this loop does not support."""
        self._seen, self._losses, self._loss_sum, self._validated = defaultdict(list), [], 0.0, False
        if stage == "fit" and self.trainer.precision == "16-mixed" and not self.automatic_optimization:
            raise ConfigError("trainer.precision: 16-mixed would train without gradient scaling; use bf16-mixed")
        if stage == "fit" and self.trainer.world_size > 1:
            join_ranks(self)

    def training_step(self, batch: Chunk, batch_idx: int) -> Tensor | None:
        """Train on each batch of a chunk, or on the one batch that it is; in Lightning's loop, return its loss."""
        if batch_idx == 0:
            self._lr = float(self._optimizer().param_groups[0]["lr"])
        if self.automatic_optimization:
            return self._loss_of(batch)
        optimizer, parameters = self._optimizer(), list(self.parameters())
        pairs: list[Pair] = []
        losses: list[Tensor] = []
        backward = self._backward if self.trainer.world_size == 1 else backward_over_ranks(self, batch)
        for x, y in islice(batches(batch), self._steps_left()):
            optimizer.zero_grad()
            outputs = self(x)
            # A rank's piece of a small batch may be empty: the other ranks wait for its gradient nevertheless.
            loss = self.loss(outputs, y) if len(y) else outputs.sum()
            backward(loss, len(y))
            if self.gradient_clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, self.gradient_clip_norm)
            optimizer.step()
            pairs.append((outputs.detach(), y))
            losses.append(loss.detach())
        # Lightning counts the steps of its own wrapper, for max_steps and checkpoints, and these calls, for loggers.
        loop = self.trainer.fit_loop.epoch_loop
        loop.manual_optimization.optim_step_progress.increment_by(len(pairs))
        loop._batches_that_stepped += len(pairs) - 1
        self._add_losses(losses, [len(y) for _, y in pairs])
        self._seen["train"].append(concatenate(pairs))
        return None

    def _add_losses(self, losses: Sequence[Tensor], rows: Sequence[int]) -> None:
        """Add the mean losses of batches with these numbers of rows to that of the epoch. Raises TrialFailed."""
        loss_sum = torch.stack(tuple(losses)).float() @ torch.tensor(rows, dtype=torch.float32, device=self.device)
        if self.trainer.world_size > 1:
            loss_sum = sum_over_ranks(loss_sum)
        self._loss_sum += finite(loss_sum, f"loss became {{}} in epoch {self.current_epoch + 1}")

    def _loss_of(self, batch: Chunk) -> Tensor:
        ((x, y),) = batches(batch)
        outputs = self(x)
        loss: Tensor = self.loss(outputs, y)
        self._seen["train"].append((outputs.detach(), y))
        self._losses.append((loss.detach(), len(y)))
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by `gradient_clip_norm`, or as the Trainer is told; only Lightning's loop calls this."""
        if self.gradient_clip_norm is not None:
            gradient_clip_val, gradient_clip_algorithm = self.gradient_clip_norm, "norm"
        self.clip_gradients(
            optimizer, gradient_clip_val=gradient_clip_val, gradient_clip_algorithm=gradient_clip_algorithm
        )

    def _backward(self, loss: Tensor, rows: int) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def validation_step(self, batch: Chunk, batch_idx: int) -> None:
        """Keep the outputs for a chunk or a batch of the validation part."""
        self._seen["val"] += [(self(x), y) for x, y in batches(batch)]

    def test_step(self, batch: Chunk, batch_idx: int) -> None:
        """Keep the outputs for a chunk or a batch of the test part."""
        self._seen["test"] += [(self(x), y) for x, y in batches(batch)]

    def predict_step(self, batch: Chunk | Tensor, batch_idx: int) -> Tensor:
        """Return the result of `predict` for a batch or a chunk, or for inputs without targets."""
        inputs = [batch] if isinstance(batch, Tensor) else [x for x, _ in batches(batch)]
        return torch.cat([self.predict(x) for x in inputs])

    def on_validation_epoch_end(self) -> None:
        """Log the `val/` metrics."""
        self._log_evaluation("val")
        self._validated = not self.trainer.sanity_checking

    def on_test_epoch_end(self) -> None:
        """Log the `test/` metrics."""
        self._log_evaluation("test")

    def on_train_epoch_end(self) -> None:
        """Log the `train/` metrics and step the scheduler; the epoch's validation has already run."""
        outputs, targets = self._take("train")
        if self.automatic_optimization:
            losses, rows = zip(*self._losses, strict=True)
            self._add_losses(losses, rows)
            self._losses = []
        if self.trainer.world_size > 1:
            outputs, targets = rows_of_all_ranks(outputs), rows_of_all_ranks(targets)
        self._log_scores("train", outputs, targets, loss=self._loss_sum / len(targets))
        self._loss_sum = 0.0
        self.log("train/lr", self._lr)
        scheduler = None if self.automatic_optimization else self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau):
            self._step_plateau(scheduler)
        elif scheduler is not None:
            cast(LRScheduler, scheduler).step()
        self._validated = False

    def _step_plateau(self, scheduler: ReduceLROnPlateau) -> None:
        if self.monitor.startswith("val/") and any(self.trainer.num_val_batches) and not self._validated:
            return  # with trainer.check_val_every_n_epoch, the last value must not count twice
        metrics = self.trainer.callback_metrics
        if self.monitor not in metrics:
            raise ConfigError(f"model.monitor: no metric '{self.monitor}' was logged; use one of {', '.join(metrics)}")
        scheduler.step(metrics[self.monitor].item())

    def _optimizer(self) -> Optimizer:
        return self.trainer.optimizers[0]

    def _steps_left(self) -> int | None:
        """Return how many more steps `trainer.max_steps` allows, or None when it sets no limit."""
        limit = self.trainer.max_steps
        return None if limit == -1 else limit - self.trainer.global_step

    def _take(self, part: str) -> Pair:
        return concatenate(self._seen.pop(part, []))

    def _log_evaluation(self, part: str) -> None:
        outputs, targets = self._take(part)
        self._log_scores(part, outputs, targets, loss=finite(self.loss(outputs, targets), f"{part}/loss is {{}}"))

    def _log_scores(self, part: str, outputs: Tensor, targets: Tensor, *, loss: float) -> None:
        metrics: dict[str, Tensor | float] = {"loss": loss, **scores(self.spec.task, outputs, targets)}
        if self.trainer.world_size > 1:
            metrics = agreed({name: float(value) for name, value in metrics.items()})  # all ranks must decide alike
        # Each value is already the mean; with n, Lightning would multiply and divide by it, and round.
        self.log_dict({f"{part}/{name}": value for name, value in metrics.items()}, batch_size=1)


def _for_lightnings_loop(
    scheduler: LRScheduler | ReduceLROnPlateau, monitor: str, *, every: int
) -> LRSchedulerConfigType:
    """Return a scheduler as Lightning's loop steps it: by epoch; ReduceLROnPlateau each `every` epochs.

    These are the epochs that measure `monitor`: no value of it must count twice.
    """
    frequency = every if isinstance(scheduler, ReduceLROnPlateau) else 1
    return {"scheduler": scheduler, "monitor": monitor, "frequency": frequency}
