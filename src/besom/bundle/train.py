"""A bundle, from its trials' configs to what each of them comes to, in one Lightning fit.

Lightning's loop hands out stretches of batches, as to one model; what happens in a step happens to all lanes. Between
epochs each lane goes its own way: it reports, its scheduler steps, it stops or goes on. Lanes that are over leave
the stack, which is built anew without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from besom.bundle.compatibility import is_ours
from besom.bundle.losses import STACKED_LOSSES, mean_losses, stacked_scores
from besom.bundle.member import Member
from besom.bundle.optimizers import OptimizedMember, has_kernels, stepper
from besom.bundle.room import EVALUATED_ROWS
from besom.bundle.size import Sizing, cut
from besom.bundle.stacking import OURS, Stacking, Through, by_vmap
from besom.bundle.user_models import Measure, groups_of, keeps_the_loop, measured, random_state
from besom.config.hydra_versions import build
from besom.data import InMemoryDataModule
from besom.data.loader import Batches
from besom.errors import TrialPruned
from besom.models.scoring import check_finite
from besom.training.fit import build_data, configure_torch, describe
from besom.training.folds import train_trial
from besom.training.progress import Channel, Outcome

Over = Callable[[int, "Outcome | Exception"], None]
"""Told how a trial ended: with an outcome, or with what it raised."""


class Entry(NamedTuple):
    """A trial that is to be a lane: its number, its resolved config, and an empty folder for its weights."""

    trial: int
    config: Mapping[str, Any]
    channel: Channel
    directory: Path


def train_bundle(
    entries: Sequence[Entry], over: Over, sizing: Sizing | None = None, measure: Measure = measured
) -> None:
    """Train trials whose configs may share a stack; tell of each end.

    They train as one or, where `sizing` finds that fewer fit or pay, in parts, one after the other; a part of one trial
    trains as it would alone. Those of a user's own model are looked at only here: in stacks train those of which that
    works, and pays by what `measure` tells of the costs. Raises what goes wrong with all of them at once, such as too
    little memory; the trials that `over` was not told of have not ended then.
    """
    _, config, *_ = entries[0]
    configure_torch(config)
    if not has_kernels():
        for entry in entries:
            if not _called_off(entry, over):
                train_unbundled(entry, over)
        return
    if not is_ours(config["model"]):
        _train_own_models(entries, over, measure)
        return
    data = _data(config)
    built = _built(entries, data, over)
    if not built:
        return
    size = sizing.size([member for _, member in built], data, config) if sizing else len(built)
    for part in cut(built, size):
        left = [(entry, member) for entry, member in part if not _called_off(entry, over)]
        if len(part) == 1 < len(built):
            for entry, _ in left:
                train_unbundled(entry, over)
        elif left:
            _train_stack([member for _, member in left], data, config, over, OURS)


def _train_own_models(entries: Sequence[Entry], over: Over, measure: Measure) -> None:
    """Train trials of a user's own model: in stacks where these work and pay, and all others one by one."""
    config = entries[0].config
    left = {entry.trial: entry for entry in entries}
    before = random_state()
    data = _data(config) if keeps_the_loop(config["model"]["_target_"]) else None
    if data is not None and random_state() == before:  # else the data hang on the seed, and are not the same for all
        built = _built(entries, data, over)
        left = {entry.trial: entry for entry, _ in built}
        for group in groups_of([member for _, member in built], data, measure):
            members = [member for member in group if not _called_off(left.pop(member.trial), over)]
            if members:
                _train_stack(members, data, config, over, by_vmap(data.spec))
    for entry in left.values():
        if not _called_off(entry, over):
            train_unbundled(entry, over)


def _data(config: Mapping[str, Any]) -> InMemoryDataModule:
    data = build_data(config)
    assert isinstance(data, InMemoryDataModule)
    return data


def _built(entries: Sequence[Entry], data: InMemoryDataModule, over: Over) -> list[tuple[Entry, Member]]:
    """Build the trials' lanes; a trial whose lane cannot be built is over."""
    built = []
    for entry in entries:
        try:
            built.append((entry, Member(entry.trial, entry.config, data, entry.channel, entry.directory)))
        except Exception as error:
            over(entry.trial, error)
    return built


def train_unbundled(entry: Entry, over: Over) -> None:
    """Train a trial by itself; tell of its end."""
    came_to: Outcome | Exception
    try:
        came_to = train_trial(entry.config, channel=entry.channel, directory=entry.directory)
    except Exception as error:
        came_to = error
    over(entry.trial, came_to)


def _called_off(entry: Entry, over: Over) -> bool:
    """Whether a trial was stopped while it waited for its turn: it is over then."""
    if stopped := entry.channel.should_stop(in_epoch=False):
        over(entry.trial, TrialPruned())
    return stopped


def _train_stack(
    members: Sequence[Member], data: InMemoryDataModule, config: Mapping[str, Any], over: Over, stacking: Stacking
) -> None:
    module = StackedModule(members, data, over, stacking)
    trainer = build(
        config["trainer"], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=-1,
    )  # fmt: skip
    for member in members:
        member.channel.started({**describe(data, member.module, trainer), "bundle": len(members)})
    try:
        trainer.fit(module, datamodule=data)
    except _NobodyLeft:
        return
    module.complete()


class _NobodyLeft(Exception):
    """Every lane is over in the middle of an epoch."""


class StackedModule(pl.LightningModule):
    """Trains the networks of several lanes as one stack; tells `over` how each ended."""

    def __init__(self, members: Sequence[Member], data: InMemoryDataModule, over: Over, stacking: Stacking) -> None:
        super().__init__()
        self.automatic_optimization = False
        self._members = list(members)
        self._data = data
        self._over = over
        self._stacking = stacking
        self._task = data.spec.task
        self._loss = STACKED_LOSSES[self._task]
        self._gone: set[Member] = set()
        self._loss_sums: list[float] = []
        self._seen: dict[str, list[tuple[Tensor, Tensor]]] = {"train": [], "val": []}
        self._val: list[dict[str, float]] = []

    def configure_optimizers(self) -> None:
        """Nothing of Lightning's: lanes have their own."""

    def on_fit_start(self) -> None:
        """Put the lanes into a stack on the trainer's device."""
        for member in self._members:
            member.module.to(self.device)
        self._val = [{} for _ in self._members]
        self._stack_up()

    def on_train_start(self) -> None:
        """Report epoch 0, with no metrics where nothing is held out to validate on."""
        for index, member in self._alive():
            with self._fate_of(member):
                member.tracker.begin(self._val[index])

    def on_train_epoch_start(self) -> None:
        """Take up what the schedulers have changed."""
        self._loss_sums = [0.0] * len(self._members)
        self._val = [{} for _ in self._members]
        self._step = stepper(self._optimized)

    @torch.no_grad()
    def training_step(self, batch: Batches, batch_idx: int) -> None:
        """Train all lanes on each batch of a stretch."""
        losses = torch.zeros(len(self._members), device=self.device)
        for rows in _cut(batch.index, batch.batch_size):
            through = self._pass(len(rows), training=True)
            targets = self._loss.targets(_gather(batch, rows, into=through.x))
            through.forward()
            losses += self._loss(through.outputs, targets, through.output_grads)
            self._seen["train"].append((self._loss.kept(through.outputs), targets))
            through.backward()
            for parameters, norm in self._clipped:
                nn.utils.clip_grad_norm_(parameters, norm)
            self._step()
        self._stack.count_batches(len(batch))
        found = losses.tolist()  # waits for the device
        for index, member in self._alive():
            with self._fate_of(member):
                check_finite(found[index], f"loss became {{}} in epoch {self.current_epoch + 1}")
                self._loss_sums[index] += found[index]
                member.tracker.check()
        if len(self._gone) == len(self._members):
            raise _NobodyLeft

    @torch.no_grad()
    def validation_step(self, batch: Batches, batch_idx: int) -> None:
        """Keep all lanes' outputs for the validation part."""
        for rows in _cut(batch.index, EVALUATED_ROWS):
            through = self._pass(len(rows), training=False)
            targets = _gather(batch, rows, into=through.x)
            through.forward()
            self._seen["val"].append((through.outputs.clone(), targets))

    def on_validation_epoch_end(self) -> None:
        """Measure the lanes on the validation part."""
        outputs, targets = self._take("val")
        kept = self._loss.kept(outputs)
        found = stacked_scores(self._task, kept, targets, classes=self._stack.outputs)
        self._val = [
            {"val/loss": loss, **{f"val/{name}": value for name, value in scores.items()}}
            for loss, scores in zip(mean_losses(self._task, outputs, targets), found, strict=True)
        ]
        for index, member in self._alive():
            with self._fate_of(member):
                check_finite(self._val[index]["val/loss"], "val/loss is {}")

    def on_train_epoch_end(self) -> None:
        """Let each lane report the epoch, and go on without those that are over."""
        kept, targets = self._take("train")
        found = stacked_scores(self._task, kept, targets, classes=self._stack.outputs)
        for index, member in self._alive():
            scores = {f"train/{name}": value for name, value in found[index].items()}
            metrics = {"train/loss": self._loss_sums[index] / len(targets), **scores, **self._val[index]}
            with self._fate_of(member):
                if member.end_epoch(self.current_epoch + 1, metrics):
                    self._complete(member)
        if self._gone:
            self._members = [member for member in self._members if member not in self._gone]
            if not self._members:
                raise _NobodyLeft
            self._stack_up()

    def complete(self) -> None:
        """End the lanes that went all the way."""
        for member in self._members:
            with self._fate_of(member):
                self._complete(member)

    def _complete(self, member: Member) -> None:
        outcome = member.complete(self._data)
        self._gone.add(member)
        self._over(member.trial, outcome)

    def _alive(self) -> Iterator[tuple[int, Member]]:
        """The lanes that are not over, with their places in the stack."""
        return ((index, member) for index, member in enumerate(self._members) if member not in self._gone)

    @contextmanager
    def _fate_of(self, member: Member) -> Iterator[None]:
        """Whatever is raised inside ends this lane, and no other."""
        try:
            yield
        except Exception as error:
            self._gone.add(member)
            self._over(member.trial, error)

    def _stack_up(self) -> None:
        self._gone.clear()
        self._members.sort(key=lambda member: self._stacking.key(member.network))
        self._stack = self._stacking.make([member.network for member in self._members])
        self._passes: dict[tuple[int, bool], Through] = {}
        self._optimized = [OptimizedMember.of(member.optimizer, member.state) for member in self._members]
        for member, optimized in zip(self._members, self._optimized, strict=True):
            member.state = optimized.state
        self._clipped = [
            (list(member.module.parameters()), member.module.gradient_clip_norm)
            for member in self._members
            if member.module.gradient_clip_norm is not None
        ]

    def _pass(self, rows: int, *, training: bool) -> Through:
        if (rows, training) not in self._passes:
            self._passes[rows, training] = self._stack.through(rows, training=training)
        return self._passes[rows, training]

    def _take(self, part: str) -> tuple[Tensor, Tensor]:
        """What was seen of a part, [lanes, kept, n] and the targets [n]; it begins anew."""
        values, targets = zip(*self._seen[part], strict=True)
        self._seen[part] = []
        return torch.cat(values, dim=2), torch.cat(targets)


def _cut(index: Tensor | range, size: int) -> Iterator[Tensor | range]:
    for start in range(0, len(index), size):
        yield index[start : start + size]


def _gather(batch: Batches, rows: Tensor | range, *, into: Tensor) -> Tensor:
    """Copy the inputs of some rows, and return the targets."""
    if isinstance(rows, range):
        part = slice(rows.start, rows.stop)
        into.copy_(batch.x[part])
        return batch.y[part]
    torch.index_select(batch.x, 0, rows, out=into)
    return batch.y.index_select(0, rows)
