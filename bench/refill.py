"""Measure whether refilling free places of a bundle is worth it: trials of pruned sweeps, trained with and without.

    PYTHONPATH=. python bench/refill.py [--data digits] [--trials 60] [--rounds 3] [OVERRIDE …]

Runs `besom sweep DATA` with bundles of 8 in one slot with each pruner, and reads from its runs the epoch at which each
trial ended. The same trials are then trained up to these epochs, with one thread, nothing recorded, in turn: in bundles
of 8 that are compacted (`waiting`), and in one stack whose free places are taken by the next trials at the end of each
epoch. In that stack each member reads the batches of its own epoch (`refilled`), which it needs for the same result as
unbundled, or all members read the same batches, which is the upper bound of the gain (`free`).

Prints the time of an epoch, with its validation, by the number of members of the stack, and for members in different
epochs; then the processor time of the trials of each sweep (medians of the rounds); and when a trial starts and ends on
average, as fractions of the sweep, if a slot waits for the end of a bundle, and if it starts the next one when fewer
than half of the members are left, alternating between the epochs of the two.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from besom.bundle.losses import stacked_scores
from besom.bundle.member import Member
from besom.bundle.mlp_stack import Pass, Stack
from besom.bundle.stacking import MLP_STACKING
from besom.bundle.train import Entry, StackedModule, _NoMembersLeft, train_bundle
from besom.data import InMemoryDataModule
from besom.data.loader import STEPS_PER_CHUNK, Batches
from besom.errors import TrialPruned
from besom.models.scoring import check_finite
from besom.training.fit import build_data
from besom.training.progress import Moment

MEMBERS = 8
SIZES = (1, 2, 3, 4, 6, 8, 12, 24)
COHORTS = (1, 2, 4, 8)
DRAWN, EPOCHS = 24, 4
COURSES = {
    "successive_halving": ["hydra/sweeper/pruner=successive_halving"],
    "hyperband": ["hydra/sweeper/pruner=hyperband"],
    "median": ["hydra/sweeper/pruner=median"],
    "early_stopping.patience=3": ["early_stopping.patience=3"],
}
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """A recorded trial of a sweep, and its last epoch."""

    config: Config
    end: int

    @property
    def epochs(self) -> int:
        """Return the number of epochs without pruning."""
        return int(self.config["trainer"]["max_epochs"])


@dataclass
class Script:
    """A channel that ends its trial after an epoch, and notes the processor time of each epoch."""

    end: int
    times: list[float] = field(default_factory=list)
    metrics: list[Mapping[str, float]] = field(default_factory=list)

    def started(self, about: Mapping[str, Any]) -> None: ...

    def report(self, moment: Moment, metrics: Mapping[str, float]) -> None:
        self.times.append(time.process_time())
        self.metrics.append(metrics)

    def should_stop(self, *, in_epoch: bool) -> bool:
        return len(self.times) > self.end


def sweep(data: str, trials: int, overrides: Sequence[str]) -> list[Trial]:
    """Run a sweep; return its trials, in order."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(Path(sys.executable).with_name("besom")), "sweep", data, "trainer=cpu", "hydra.sweeper.n_jobs=1",
            f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.bundle={MEMBERS}", "--quiet", *overrides,
            "hydra.sweeper.finalists=null",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
        with sqlite3.connect(Path(folder, "mlruns", "mlflow.db")) as runs:
            found = runs.execute(
                "SELECT artifact_uri, MAX(step) FROM runs JOIN metrics USING (run_uuid) "
                "JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'besom.trial' "
                "WHERE metrics.key = 'val/acc' GROUP BY runs.run_uuid ORDER BY CAST(tags.value AS INTEGER)"
            ).fetchall()
        return [Trial(_config(Path(uri.removeprefix("file://"))), end) for uri, end in found]


def _config(artifacts: Path) -> Config:
    config: Any = OmegaConf.to_container(OmegaConf.load(artifacts / "config.yaml"), resolve=True)
    return config


class Cohorts(Pass):
    """A training pass with different batches: `x` is [cohorts, b, features], `of` the cohort of each member."""

    def __init__(self, stack: Stack, rows: int, of: Sequence[int]) -> None:
        super().__init__(stack, rows, training=True)
        whole: Any = self._forward[0]  # the first layer of all members
        multiplied: Any = self._backward[0][0]  # its backward pass
        summed = self._backward[0][1]
        z, d = whole.keywords["out"], multiplied.args[0]
        self.x = stack.new(max(of) + 1, rows, stack.features)
        forward: list[Callable[[], object]] = []
        backward = [summed]
        for cohort, run in itertools.groupby(stack.first.blocks, lambda block: of[block.member]):
            blocks = list(run)
            units = slice(blocks[0].rows.start, blocks[-1].rows.stop)
            bias, weight, grad = (t[units] for t in (stack.first.bias, stack.first_weight, stack.first_weight_grad))
            forward.append(partial(torch.addmm, bias[:, None], weight, self.x[cohort].t(), out=z[units]))
            backward.append(partial(torch.mm, d[units], self.x[cohort], out=grad))
        self._forward[:1] = forward
        self._backward[0] = backward


class Refilled(StackedModule):
    """A stack whose free places are taken by the next trials of `waiting`. Members that start together are a cohort.

    `began` is the pass over the data in which each of the first members starts; default: all in pass 0.
    """

    def __init__(
        self, members: Sequence[Member], waiting: deque[Entry], data: InMemoryDataModule, over: Any, *, epochs: int,
        free: bool = False, began: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(members, data, over, MLP_STACKING)
        self._waiting = waiting
        self._epochs = epochs
        self._free = free
        self._began = dict(zip(members, began or [0] * len(members), strict=True))

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        loader: Any = self._data.train_dataloader()
        self._orders = torch.stack([loader._order(self.current_epoch - began) for began in self._passes_begun])

    @torch.no_grad()
    def training_step(self, batch: Batches, batch_idx: int) -> None:
        losses = torch.zeros(len(self._members))
        first = batch_idx * STEPS_PER_CHUNK * batch.batch_size
        for rows in self._orders[:, first : first + batch.rows].split(batch.batch_size, dim=1):
            through = self._pass(rows.shape[1], training=True)
            torch.index_select(batch.x, 0, rows.reshape(-1), out=through.x.view(-1, self._stack.features))
            targets = batch.y[rows].long()
            through.forward()
            losses += _cross_entropy(through.outputs, targets[self._cohorts], through.output_grads)
            self._seen["train"].append((self._loss.kept(through.outputs), targets))
            through.backward()
            for parameters, norm in self._clipped:
                torch.nn.utils.clip_grad_norm_(parameters, norm)
            self._step()
        self._stack.count_batches(len(batch))
        found = losses.tolist()
        for index, member in self._active():
            with self._ends_only(member):
                check_finite(found[index], "loss became {}")
                self._loss_sums[index] += found[index]
                member.tracker.check()

    def on_train_epoch_end(self) -> None:
        seen, self._seen["train"] = self._seen["train"], []
        kept, targets = torch.cat([one for one, _ in seen], dim=2), torch.cat([one for _, one in seen], dim=1)
        found: list[dict[str, float]] = [{} for _ in self._members]
        for cohort, own in enumerate(targets):
            indices = [index for index, of in enumerate(self._cohorts) if of == cohort]
            scores = stacked_scores(self._task, kept[indices], own, classes=self._stack.outputs)
            for index, score in zip(indices, scores, strict=True):
                found[index] = {f"train/{name}": value for name, value in score.items()}
        for index, member in self._active():
            epoch = self.current_epoch + 1 - self._began[member]
            metrics = {"train/loss": self._loss_sums[index] / targets.shape[1], **found[index], **self._val[index]}
            with self._ends_only(member):
                if member.end_epoch(Moment(epoch=epoch, step=0), metrics) or epoch == self._epochs:
                    self._complete(member)
        if self._finished or (self._waiting and len(self._members) < MEMBERS):
            self._refill()

    def _refill(self) -> None:
        kept = [member for member in self._members if member not in self._finished]
        joined: list[Member] = []
        while self._waiting and len(kept) + len(joined) < MEMBERS:
            entry = self._waiting.popleft()
            joined.append(Member(entry.trial, entry.config, self._data, entry.channel, entry.directory))
            self._began[joined[-1]] = self.current_epoch + 1
        if joined:
            self._members = joined
            super()._build_stack()
            loader: Any = self._data.val_dataloader()
            for batch in loader:
                self.validation_step(batch, 0)
            self.on_validation_epoch_end()
            for index, member in self._active():
                with self._ends_only(member):
                    member.tracker.begin(self._val[index])
        self._members = kept + [member for member in joined if member not in self._finished]
        if not self._members:
            raise _NoMembersLeft
        self._build_stack()

    def _build_stack(self) -> None:
        self._members.sort(
            key=lambda member: self._began[member]
        )  # then by `stacking_key`, which keeps this order among equals
        super()._build_stack()
        self._passes_begun = [0] if self._free else sorted({self._began[member] for member in self._members})
        self._cohorts = [0 if self._free else self._passes_begun.index(self._began[member]) for member in self._members]

    def _pass(self, rows: int, *, training: bool) -> Pass:
        if training and (rows, True) not in self._passes:
            self._passes[rows, True] = Cohorts(self._stack, rows, self._cohorts)
        return super()._pass(rows, training=training)


def _cross_entropy(outputs: Tensor, targets: Tensor, grads: Tensor) -> Tensor:
    """Compute the losses as `besom.bundle.losses` does, for targets [members, b]."""
    index = targets[:, None]
    torch.ops.aten._log_softmax.out(outputs, 1, False, out=grads)
    losses = grads.gather(1, index).sum(dim=(1, 2)).neg_()
    grads.exp_()
    grads.scatter_add_(1, index, grads.new_full((1, 1, 1), -1.0).expand(len(outputs), 1, index.shape[2]))
    grads.div_(outputs.shape[2])
    return losses


def closed_up(entries: list[Entry]) -> None:
    """Train bundles one after the other, as in a slot."""
    for start in range(0, len(entries), MEMBERS):
        train_bundle(entries[start : start + MEMBERS], _over)


def refilled(entries: list[Entry], *, free: bool = False, began: Sequence[int] | None = None) -> None:
    """Train all in one stack."""
    config = entries[0].config
    data: Any = build_data(config)
    members = [Member(one.trial, one.config, data, one.channel, one.directory) for one in entries[:MEMBERS]]
    epochs = config["trainer"]["max_epochs"] if began is None else sys.maxsize
    module = Refilled(members, deque(entries[MEMBERS:]), data, _over, epochs=epochs, free=free, began=began)
    trainer = instantiate(
        {**config["trainer"], "max_epochs": -1}, _convert_="all", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=-1,
    )  # fmt: skip
    with suppress(_NoMembersLeft):
        trainer.fit(module, datamodule=data)


def _over(trial: int, came_to: object) -> None:
    if isinstance(came_to, Exception) and not isinstance(came_to, TrialPruned):
        raise SystemExit(f"trial {trial}: {came_to!r}")


def run(train: Callable[[list[Entry]], None], trials: Sequence[Trial]) -> tuple[float, list[Script]]:
    """Train trials up to their last epochs; return the seconds of processor time, and the channel of each."""
    with tempfile.TemporaryDirectory() as folder:
        scripts = [Script(trial.end if trial.end < trial.epochs else sys.maxsize) for trial in trials]
        entries = []
        for number, (trial, script) in enumerate(zip(trials, scripts, strict=True)):
            Path(folder, str(number)).mkdir()
            entries.append(Entry(number, trial.config, script, Path(folder, str(number))))
        began = time.process_time()
        train(entries)
        return time.process_time() - began, scripts


def epoch_ms(trials: Sequence[Trial], members: int, cohorts: int | None = None) -> float:
    """Return an epoch's milliseconds of processor time: the mean over the stacks of this size of the trials."""
    found = []
    for start in range(0, len(trials), members):
        stack = [Trial(trial.config, EPOCHS) for trial in trials[start : start + members]]
        began = [-(number % cohorts) for number in range(members)] if cohorts else None
        train = partial(refilled, began=began) if cohorts else partial(train_bundle, on_finished=_over)
        _, scripts = run(train, stack)
        times = scripts[0].times[1:]  # the first epoch prepares the passes
        found.append(statistics.median(later - sooner for sooner, later in itertools.pairwise(times)))
    return 1000 * statistics.mean(found)


def costs(trials: Sequence[Trial], rounds: int) -> Callable[[int], float]:
    """Print the time of epochs for trials drawn from these; return the line fitted to that of compacted stacks."""
    drawn = random.Random(0).sample(list(trials), DRAWN)
    sides = [(members, None) for members in SIZES] + [(MEMBERS, cohorts) for cohorts in COHORTS]
    found: dict[Any, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for members, cohorts in sides:
            found[members, cohorts].append(epoch_ms(drawn, members, cohorts))
    medians = {side: statistics.median(times) for side, times in found.items()}
    print("| members | per epoch | per member |\n|---|---|---|")
    for (members, cohorts), ms in medians.items():
        print(f"| {members}{f' in {cohorts} cohorts' if cohorts else ''} | {ms:.1f} ms | {ms / members:.1f} ms |")
    slope, fixed = statistics.linear_regression(SIZES, [medians[members, None] for members in SIZES])
    print(f"\na least squares line: {fixed:.1f} ms, and {slope:.1f} ms per member", flush=True)
    return lambda members: fixed + slope * members


def alive(trials: Sequence[Trial], epoch: int) -> float:
    """Return the mean number of members of a bundle in an epoch."""
    return MEMBERS * statistics.mean(trial.end >= epoch for trial in trials)


def means(trials: Sequence[Trial], cost: Callable[[int], float], *, most_left: int) -> tuple[float, float]:
    """Return when a trial starts and when it ends, on average and as fractions of the sweep.

    The next bundle starts as soon as at most `most_left` members train; bundles alternate between their epochs.
    """
    queue = deque([trial.end for trial in trials[start : start + MEMBERS]] for start in range(0, len(trials), MEMBERS))
    under_way: list[tuple[int, list[int]]] = []  # a bundle's epochs so far, and the last epochs of remaining members
    starts, ends, now = [], [], 0.0
    while queue or under_way:
        if queue and sum(len(left) for _, left in under_way) <= most_left:
            starts += [now] * len(queue[0])
            under_way.append((0, queue.popleft()))
        going_on = []
        for epochs, left in under_way:
            now += cost(len(left))
            ends += [now for end in left if end <= epochs + 1]
            if left := [end for end in left if end > epochs + 1]:
                going_on.append((epochs + 1, left))
        under_way = going_on
    return statistics.mean(starts) / now, statistics.mean(ends) / now


def compare(trials: Sequence[Trial], rounds: int) -> dict[str, float]:
    """Train the trials in each way, in turn; return the medians of the seconds of processor time."""
    sides: dict[str, Callable[[list[Entry]], None]]
    sides = {"waiting": closed_up, "refilled": refilled, "free": partial(refilled, free=True)}
    times: dict[str, list[float]] = {name: [] for name in sides}
    told: dict[str, list[Script]] = {}
    for _ in range(rounds):
        for name, train in sides.items():
            took, told[name] = run(train, trials)
            times[name].append(took)
    for trial, pair in enumerate(zip(told["waiting"], told["refilled"], strict=True)):
        one, other = (torch.tensor([metrics["val/loss"] for metrics in script.metrics]) for script in pair)
        if not torch.allclose(one, other, rtol=1e-3):
            raise SystemExit(f"trial {trial}: refilled, it does not come to what it comes to in its bundle")
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("digits", "fashion_mnist"), default="digits")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--courses", nargs="+", choices=COURSES, default=list(COURSES))
    parser.add_argument("overrides", nargs="*", help="of the sweep, such as data.limit=12000")
    given = parser.parse_args()
    if given.trials < DRAWN:
        parser.error(f"--trials: {given.trials} is below {DRAWN}, as many as the stacks are drawn from; raise it")
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    sweeps = {name: sweep(given.data, given.trials, [*COURSES[name], *given.overrides]) for name in given.courses}
    cost = costs(next(iter(sweeps.values())), given.rounds)
    shown = (1, 2, 4, 10)
    print(
        f"\n| | members in epochs {', '.join(map(str, shown))} | waiting | refilled | free | start, end; interleaved |"
    )
    print("|---|---|---|---|---|---|", flush=True)
    for name, trials in sweeps.items():
        members = ", ".join(f"{alive(trials, epoch):.1f}" for epoch in shown)
        found = compare(trials, given.rounds)
        waiting, refill, free = (found[side] for side in ("waiting", "refilled", "free"))
        begun, over = means(trials, cost, most_left=0)
        sooner, interleaved = means(trials, cost, most_left=MEMBERS // 2 - 1)
        print(
            f"| {name} | {members} | {waiting:.2f} s | {refill:.2f} s, {waiting / refill:.2f} times the rate "
            f"| {free:.2f} s, {waiting / free:.2f} | {begun:.0%}, {over:.0%}; {sooner:.0%}, {interleaved:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
