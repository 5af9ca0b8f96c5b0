"""The training of a bundle in one Lightning fit, from its trials' configs to their outcomes.

Lightning's loop yields chunks of batches, as for one model; each step is a step of all members. Between epochs the
members are independent: each reports, steps its scheduler, and stops or continues. Finished members leave the stack,
which is rebuilt without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from besom.bundle.compatibility import is_besom_model
from besom.bundle.losses import STACKED_LOSSES, mean_losses, stacked_scores
from besom.bundle.member import Member
from besom.bundle.optimizers import OptimizedMember, has_kernels, stepper
from besom.bundle.size import EVALUATED_ROWS, Sizing, cut
from besom.bundle.stacking import MLP_STACKING, Stacking, StackPass, by_vmap
from besom.bundle.user_models import Measure, groups_of, keeps_training_loop, measured, random_state
from besom.config.hydra_versions import build
from besom.data import InMemoryDataModule
from besom.data.loader import Batches
from besom.errors import TrialPruned
from besom.models.scoring import check_finite
from besom.training.fit import build_data, configure_torch, describe
from besom.training.folds import train_trial
from besom.training.progress import Channel, Moment, OnFinished
from besom.training.result import TrialResult


class Entry(NamedTuple):
    """A trial that is to become a member: its number, its resolved config, and an empty folder for its weights."""

    trial: int
    config: Mapping[str, Any]
    channel: Channel
    directory: Path


def train_bundle(
    entries: Sequence[Entry], on_finished: OnFinished, sizing: Sizing | None = None, measure: Measure = measured
) -> None:
    """Train trials whose configs may share a stack; report each end to `on_finished`.

    They train in one stack or, where `sizing` finds that fewer fit or pay, in parts one after the other; a part of one
    trial trains unbundled. Trials of a user's own model are inspected here: stacks train those for which that works,
    and pays by the costs that `measure` returns. Raises an error of all of them at once, such as too little memory;
    trials that were not passed to `on_finished` have not ended then.
    """
    _, config, *_ = entries[0]
    configure_torch(config)
    if not has_kernels():
        for entry in entries:
            if not _was_stopped(entry, on_finished):
                train_unbundled(entry, on_finished)
        return
    if not is_besom_model(config["model"]):
        _train_own_models(entries, on_finished, measure)
        return
    data = _data(config)
    built = _build_members(entries, data, on_finished)
    if not built:
        return
    size = sizing.size([member for _, member in built], data, config) if sizing else len(built)
    for part in cut(built, size):
        left = [(entry, member) for entry, member in part if not _was_stopped(entry, on_finished)]
        if len(part) == 1 < len(built):
            for entry, _ in left:
                train_unbundled(entry, on_finished)
        elif left:
            _train_stack([member for _, member in left], data, config, on_finished, MLP_STACKING)


def _train_own_models(entries: Sequence[Entry], on_finished: OnFinished, measure: Measure) -> None:
    """Train trials of a user's own model: in stacks where these work and pay, all others one by one."""
    config = entries[0].config
    left = {entry.trial: entry for entry in entries}
    before = random_state()
    data = _data(config) if keeps_training_loop(config["model"]["_target_"]) else None
    if data is not None and random_state() == before:  # else the data depend on the seed, and differ between trials
        built = _build_members(entries, data, on_finished)
        left = {entry.trial: entry for entry, _ in built}
        for group in groups_of([member for _, member in built], data, measure):
            members = [member for member in group if not _was_stopped(left.pop(member.trial), on_finished)]
            if members:
                _train_stack(members, data, config, on_finished, by_vmap(data.spec))
    for entry in left.values():
        if not _was_stopped(entry, on_finished):
            train_unbundled(entry, on_finished)


def _data(config: Mapping[str, Any]) -> InMemoryDataModule:
    data = build_data(config)
    assert isinstance(data, InMemoryDataModule)
    return data


def _build_members(
    entries: Sequence[Entry], data: InMemoryDataModule, on_finished: OnFinished
) -> list[tuple[Entry, Member]]:
    """Build the trials' members; a trial whose member cannot be built has ended."""
    built = []
    for entry in entries:
        try:
            built.append((entry, Member(entry.trial, entry.config, data, entry.channel, entry.directory)))
        except Exception as error:
            on_finished(entry.trial, error)
    return built


def train_unbundled(entry: Entry, on_finished: OnFinished) -> None:
    """Train a trial unbundled, and report its end."""
    result: TrialResult | Exception
    try:
        result = train_trial(entry.config, channel=entry.channel, directory=entry.directory)
    except Exception as error:
        result = error
    on_finished(entry.trial, result)


def _was_stopped(entry: Entry, on_finished: OnFinished) -> bool:
    """Return whether a trial was stopped while it waited for its turn; report it as pruned then."""
    if stopped := entry.channel.should_stop(in_epoch=False):
        on_finished(entry.trial, TrialPruned())
    return stopped


def _train_stack(
    members: Sequence[Member],
    data: InMemoryDataModule,
    config: Mapping[str, Any],
    on_finished: OnFinished,
    stacking: Stacking,
) -> None:
    module = StackedModule(members, data, on_finished, stacking)
    trainer = build(
        config["trainer"], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=-1,
    )  # fmt: skip
    for member in members:
        about = describe(data, member.module, trainer)
        member.channel.started({**about, "loop": "besom", "bundle": len(members)})
    try:
        trainer.fit(module, datamodule=data)
    except _NoMembersLeft:
        return
    module.complete()


class _NoMembersLeft(Exception):
    """All members have ended in the middle of an epoch."""


class StackedModule(pl.LightningModule):
    """Trains the networks of several members as one stack; passes the result of each to `on_finished`."""

    def __init__(
        self, members: Sequence[Member], data: InMemoryDataModule, on_finished: OnFinished, stacking: Stacking
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self._members = list(members)
        self._data = data
        self._on_finished = on_finished
        self._stacking = stacking
        self._task = data.spec.task
        self._loss = STACKED_LOSSES[self._task]
        self._finished: set[Member] = set()
        self._taken = 0
        self._loss_sums: list[float] = []
        self._seen: dict[str, list[tuple[Tensor, Tensor]]] = {"train": [], "val": []}
        self._val: list[dict[str, float]] = []

    def configure_optimizers(self) -> None:
        """Return no optimizer to Lightning: members have their own."""

    def on_fit_start(self) -> None:
        """Build the stack of the members on the trainer's device."""
        for member in self._members:
            member.module.to(self.device)
        self._val = [{} for _ in self._members]
        self._build_stack()

    def on_train_start(self) -> None:
        """Report epoch 0, with no metrics where nothing is held out to validate on."""
        for index, member in self._active():
            with self._ends_only(member):
                member.tracker.begin(self._val[index])

    def on_train_epoch_start(self) -> None:
        """Use the learning rates that the schedulers have set."""
        self._loss_sums = [0.0] * len(self._members)
        self._val = [{} for _ in self._members]
        self._step = stepper(self._optimized)

    @torch.no_grad()
    def training_step(self, batch: Batches, batch_idx: int) -> None:
        """Train all members on each batch of a chunk."""
        losses = torch.zeros(len(self._members), device=self.device)
        for rows in _cut(batch.index, batch.batch_size):
            stack_pass = self._pass(len(rows), training=True)
            targets = self._loss.targets(_gather(batch, rows, into=stack_pass.x))
            stack_pass.forward()
            losses += self._loss(stack_pass.outputs, targets, stack_pass.output_grads)
            self._seen["train"].append((self._loss.kept(stack_pass.outputs), targets))
            stack_pass.backward()
            for parameters, norm in self._clipped:
                nn.utils.clip_grad_norm_(parameters, norm)
            self._step()
            self._taken += 1
        self._stack.count_batches(len(batch))
        loss_sums = losses.tolist()  # waits for the device
        for index, member in self._active():
            with self._ends_only(member):
                check_finite(loss_sums[index], f"loss became {{}} in epoch {self.current_epoch + 1}")
                self._loss_sums[index] += loss_sums[index]
                member.tracker.check()
        if len(self._finished) == len(self._members):
            raise _NoMembersLeft

    @torch.no_grad()
    def validation_step(self, batch: Batches, batch_idx: int) -> None:
        """Keep the outputs of all members on the validation part."""
        for rows in _cut(batch.index, EVALUATED_ROWS):
            stack_pass = self._pass(len(rows), training=False)
            targets = _gather(batch, rows, into=stack_pass.x)
            stack_pass.forward()
            self._seen["val"].append((stack_pass.outputs.clone(), targets))

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics of the members on the validation part."""
        outputs, targets = self._pop_seen("val")
        kept = self._loss.kept(outputs)
        found = stacked_scores(self._task, kept, targets, classes=self._stack.outputs)
        self._val = [
            {"val/loss": loss, **{f"val/{name}": value for name, value in scores.items()}}
            for loss, scores in zip(mean_losses(self._task, outputs, targets), found, strict=True)
        ]
        for index, member in self._active():
            with self._ends_only(member):
                check_finite(self._val[index]["val/loss"], "val/loss is {}")

    def on_train_epoch_end(self) -> None:
        """Report the epoch of each member, and continue without those that have ended."""
        moment = Moment(epoch=self.current_epoch + 1, step=self._taken)
        kept, targets = self._pop_seen("train")
        found = stacked_scores(self._task, kept, targets, classes=self._stack.outputs)
        for index, member in self._active():
            scores = {f"train/{name}": value for name, value in found[index].items()}
            metrics = {"train/loss": self._loss_sums[index] / len(targets), **scores, **self._val[index]}
            with self._ends_only(member):
                if member.end_epoch(moment, metrics):
                    self._complete(member)
        if self._finished:
            self._members = [member for member in self._members if member not in self._finished]
            if not self._members:
                raise _NoMembersLeft
            self._build_stack()

    def complete(self) -> None:
        """Complete the members that trained for all epochs."""
        for member in self._members:
            with self._ends_only(member):
                self._complete(member)

    def _complete(self, member: Member) -> None:
        outcome = member.complete(self._data)
        self._finished.add(member)
        self._on_finished(member.trial, outcome)

    def _active(self) -> Iterator[tuple[int, Member]]:
        """Return the members that have not ended, with their positions in the stack."""
        return ((index, member) for index, member in enumerate(self._members) if member not in self._finished)

    @contextmanager
    def _ends_only(self, member: Member) -> Iterator[None]:
        """End only this member, and no other, on an exception in the block."""
        try:
            yield
        except Exception as error:
            self._finished.add(member)
            self._on_finished(member.trial, error)

    def _build_stack(self) -> None:
        self._finished.clear()
        self._members.sort(key=lambda member: self._stacking.key(member.network))
        self._stack = self._stacking.make([member.network for member in self._members])
        self._passes: dict[tuple[int, bool], StackPass] = {}
        self._optimized = [OptimizedMember.of(member.optimizer, member.state) for member in self._members]
        for member, optimized in zip(self._members, self._optimized, strict=True):
            member.state = optimized.state
        self._clipped = [
            (list(member.module.parameters()), member.module.gradient_clip_norm)
            for member in self._members
            if member.module.gradient_clip_norm is not None
        ]

    def _pass(self, rows: int, *, training: bool) -> StackPass:
        if (rows, training) not in self._passes:
            self._passes[rows, training] = self._stack.new_pass(rows, training=training)
        return self._passes[rows, training]

    def _pop_seen(self, part: str) -> tuple[Tensor, Tensor]:
        """Return and clear what was kept of a part: [members, kept, n], and the targets [n]."""
        values, targets = zip(*self._seen[part], strict=True)
        self._seen[part] = []
        return torch.cat(values, dim=2), torch.cat(targets)


def _cut(index: Tensor | range, size: int) -> Iterator[Tensor | range]:
    for start in range(0, len(index), size):
        yield index[start : start + size]


def _gather(batch: Batches, rows: Tensor | range, *, into: Tensor) -> Tensor:
    """Copy the inputs of some rows into `into`, and return the targets."""
    if isinstance(rows, range):
        part = slice(rows.start, rows.stop)
        into.copy_(batch.x[part])
        return batch.y[part]
    torch.index_select(batch.x, 0, rows, out=into)
    return batch.y.index_select(0, rows)
