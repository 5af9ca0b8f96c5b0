"""A trial that is evaluated by folds: trained once per fold and judged by the mean, then trained on all of them.

All trainings start from the same seeds, so that folds differ in their rows alone, and of each its best epoch counts.
The model that is kept, and measured on the test part, is the last one: trained on all folds, for as many epochs as
were best on average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from torch import Tensor

from besom.config.checks import folds_of
from besom.config.objectives import Objective, leading, read_objectives
from besom.data import InMemoryDataModule
from besom.errors import ConfigError, TrialFailed, TrialPruned
from besom.models.distributed import rank_count
from besom.training.best_epoch import BestEpochTracker, LastEpochTracker
from besom.training.ddp_channel import DDPChannel
from besom.training.figure_data import Predictions
from besom.training.fit import build_data, check_test_part, costs_of, fit, objective_values, seed, set_up, train
from besom.training.progress import Channel, Outcome

Weights = dict[str, Tensor]


def train_trial(config: Mapping[str, Any], *, channel: Channel, directory: Path) -> Outcome:
    """Train what a resolved config describes, once or by its folds: see `train`, `cross_validate`."""
    if folds_of(config) is None:
        return train(config, channel=channel, directory=directory)
    return cross_validate(config, channel=channel, directory=directory)


def cross_validate(config: Mapping[str, Any], *, channel: Channel, directory: Path) -> Outcome:
    """Evaluate a config by its folds, and leave the weights of the model of all folds in `directory`.

    The conversation hears once what was built, and after the i-th fold, as step i from 1, what `so_far` returns. Raises
    what `besom.training.fit.train` raises, and ConfigError where the data are no module of Besom's.
    """
    set_up(config)
    if rank_count() > 1:
        channel = DDPChannel(channel)
    data, objectives = _data(config), read_objectives(config)
    count, leader = folds_of(config) or 0, leading(objectives)
    if config["test"]:
        check_test_part(data.folded(count))
    within = _WithinFolds(channel, count)
    folds: list[Fold] = []
    for number in range(count):
        tracker: BestEpochTracker[Weights] = BestEpochTracker(leader, within)
        folds.append(_train_fold(config, data.folded(count, held_out=number), tracker, within, number))
        channel.report(len(folds), so_far(folds, objectives))
        if channel.should_stop(in_epoch=False):
            raise TrialPruned
    seed(config)
    epochs = round(fmean(fold.best_epoch for fold in folds))
    whole = fit(_for_epochs(config, epochs), data.folded(count), LastEpochTracker(leader, within))
    seconds = whole.seconds + sum(fold.seconds for fold in folds)
    costs = costs_of(whole.model, objectives, seconds=seconds)
    predictions = Predictions.joined([fold.predictions for fold in folds if fold.predictions])
    summary = {**whole.leave(config, directory, predictions), **costs}
    return Outcome(values=objective_values(objectives, {**means(folds), **costs}), summary=summary)


@dataclass(frozen=True, kw_only=True)
class Fold:
    """What a fold came to: its best epoch, what the model was like then, and how many seconds it trained."""

    metrics: Mapping[str, float]
    best_epoch: int
    predictions: Predictions | None
    seconds: float


def so_far(folds: Sequence[Fold], objectives: Sequence[Objective]) -> dict[str, float]:
    """Return the metrics after the last of these folds.

    Under their own names the means over the folds; `NAME_std`, an objective's standard deviation over them (by n - 1);
    under `fold/` the last fold's own values on its validation part, and its best epoch.
    """
    last = folds[-1]
    own = {f"fold/{name}": value for name, value in last.metrics.items() if name.startswith("val/")}
    values = {one.name: [fold.metrics[one.name] for fold in folds if one.name in fold.metrics] for one in objectives}
    spread = {f"{name}_std": stdev(of) for name, of in values.items() if len(of) > 1}
    return {**means(folds), **spread, **own, "fold/best_epoch": float(last.best_epoch)}


def means(folds: Sequence[Fold]) -> dict[str, float]:
    """Return the mean of each metric over the folds that have it: on few rows, some are not defined."""
    names = dict.fromkeys(name for fold in folds for name in fold.metrics)
    return {name: fmean(fold.metrics[name] for fold in folds if name in fold.metrics) for name in names}


def _data(config: Mapping[str, Any]) -> InMemoryDataModule:
    data = build_data(config)
    if not isinstance(data, InMemoryDataModule):
        raise ConfigError(
            f"evaluation.folds: the rows of {config['data']['_target_']} cannot be dealt into folds; "
            "set evaluation.folds=null, or take a data module of Besom's"
        )
    return data


def _train_fold(
    config: Mapping[str, Any],
    data: InMemoryDataModule,
    tracker: BestEpochTracker[Weights],
    within: _WithinFolds,
    number: int,
) -> Fold:
    seed(config)
    try:
        fitted = fit(config, data, tracker, told=None if number else within)
    except TrialFailed as failed:
        raise TrialFailed(f"fold {number + 1}: {failed}") from failed
    predictions = fitted.predictions(config)
    return Fold(metrics=tracker.metrics, best_epoch=tracker.epoch, predictions=predictions, seconds=fitted.seconds)


def _for_epochs(config: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """The config for training so many epochs, with nothing held out that could end it sooner."""
    trainer = {**config["trainer"], "max_epochs": epochs}
    return {**config, "trainer": trainer, "early_stopping": {**config["early_stopping"], "patience": None}}


class _WithinFolds:
    """What is told and asked while folds train: of single epochs, only whether to stop."""

    def __init__(self, channel: Channel, count: int) -> None:
        self._channel = channel
        self._count = count

    def started(self, about: Mapping[str, Any]) -> None:
        """Say what was built for the first fold, with the rows of all."""
        sizes = about["sizes"]
        rows = {f"in {self._count} folds": sizes["train"] + sizes["val"], "test": sizes["test"]}
        self._channel.started({**about, "sizes": rows})

    def report(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Say nothing: the fold will be told of as a whole."""

    def should_stop(self, *, in_epoch: bool) -> bool:
        """Whether to stop early."""
        return self._channel.should_stop(in_epoch=in_epoch)
