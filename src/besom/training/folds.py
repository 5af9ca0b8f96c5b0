"""Cross-validation of a trial: trained once per fold and evaluated by the mean, then trained on all folds.

All trainings start from the same seeds, so that folds differ only in their rows, and each counts with its best epoch.
The model that is kept, and measured on the test part, is the last one: trained on all folds, for the mean number of
best epochs, or of best steps where validations come within epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from besom.config.checks import folds_of
from besom.config.extras.logged import Log
from besom.config.objectives import Objective, leading, read_objectives
from besom.config.trainer import WORK, validates_within_epochs
from besom.data import InMemoryDataModule
from besom.errors import ConfigError, TrialFailed, TrialPruned
from besom.models.distributed import rank_count
from besom.models.weights import State
from besom.training.best_epoch import BestEpochTracker, LastEpochTracker
from besom.training.ddp_channel import DDPChannel
from besom.training.figure_data import Predictions
from besom.training.fit import build_data, check_test_part, costs_of, fit, objective_values, seed, set_up, train
from besom.training.progress import Channel, Moment
from besom.training.result import TrialResult
from besom.training.tuning import tune


def train_trial(config: Mapping[str, Any], *, channel: Channel, directory: Path) -> TrialResult:
    """Train a resolved config, once or by its folds: see `tune`, `train` and `cross_validate`."""
    if folds_of(config) is None:
        config, about = tune(config, directory)
        return train(config, channel=channel, directory=directory, about=about)
    return cross_validate(config, channel=channel, directory=directory)


def cross_validate(config: Mapping[str, Any], *, channel: Channel, directory: Path) -> TrialResult:
    """Evaluate a config by its folds, and write the weights of the model trained on all folds into `directory`.

    The channel receives one report of what was built and, after the i-th fold, the result of `_metrics_so_far` as step
    i, from 1. Raises what `besom.training.fit.train` raises, and ConfigError for a data module that is not Besom's.
    """
    set_up(config)
    if rank_count() > 1:
        channel = DDPChannel(channel)
    data, objectives = _data(config), read_objectives(config)
    count, leader, work = folds_of(config) or 0, leading(objectives), directory / WORK
    if config["test"]:
        check_test_part(data.folded(count))
    folds: list[Fold] = []
    for number in range(count):
        fold_channel = _FoldChannel(channel, count, number)
        tracker: BestEpochTracker[State] = BestEpochTracker(leader, fold_channel, objectives)
        turn = data.folded(count, held_out=number)
        folds.append(_train_fold(config, turn, tracker, fold_channel, work / fold_channel.name))
        channel.report(Moment(epoch=len(folds), step=len(folds)), _metrics_so_far(folds, objectives))
        if channel.should_stop(in_epoch=False):
            raise TrialPruned
    seed(config)
    last_channel = _FoldChannel(channel, count)
    last_tracker = LastEpochTracker[State](leader, last_channel)
    place = work / last_channel.name
    whole = fit(_as_long_as(folds, config), data.folded(count), last_tracker, place, channel=last_channel)
    seconds = whole.seconds + sum(fold.seconds for fold in folds)
    costs = costs_of(whole.model, objectives, seconds=seconds)
    predictions = Predictions.joined([fold.predictions for fold in folds if fold.predictions])
    with whole.loggers_open():
        summary = {**whole.write(config, directory, predictions), **costs}
    return TrialResult(values=objective_values(objectives, {**means(folds), **costs}), summary=summary)


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The result of a fold: its best report, the metrics and predictions of that, and the seconds of training."""

    metrics: Mapping[str, float]
    best_epoch: int
    best_step: int
    predictions: Predictions | None
    seconds: float


def _metrics_so_far(folds: Sequence[Fold], objectives: Sequence[Objective]) -> dict[str, float]:
    """Return the metrics after the last of these folds.

    The means over the folds have the metrics' own names; `NAME_std` is an objective's standard deviation over the folds
    (by n - 1); `fold/` has the last fold's values on its validation part, and its best epoch.
    """
    last = folds[-1]
    own = {f"fold/{name}": value for name, value in last.metrics.items() if name.startswith("val/")}
    names = [objective.name for objective in objectives]
    values = {name: [fold.metrics[name] for fold in folds if name in fold.metrics] for name in names}
    spread = {f"{name}_std": stdev(numbers) for name, numbers in values.items() if len(numbers) > 1}
    return {**means(folds), **spread, **own, "fold/best_epoch": float(last.best_epoch)}


def means(folds: Sequence[Fold]) -> dict[str, float]:
    """Return the mean of each metric over the folds that have it: with few rows, some metrics are undefined."""
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
    tracker: BestEpochTracker[State],
    fold_channel: _FoldChannel,
    folder: Path,
) -> Fold:
    seed(config)
    try:
        fitted = fit(config, data, tracker, folder, channel=fold_channel)
    except TrialFailed as failed:
        raise TrialFailed(f"{fold_channel.name.replace('-', ' ')}: {failed}") from failed
    with fitted.loggers_open():
        predictions = fitted.predictions(config)
    return Fold(
        metrics=tracker.metrics, best_epoch=tracker.epoch, best_step=tracker.step, predictions=predictions,
        seconds=fitted.seconds,
    )  # fmt: skip


def _as_long_as(folds: Sequence[Fold], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config for training up to the mean best epoch of the folds, without early stopping.

    Where validations come within epochs, it is their mean best step.
    """
    if validates_within_epochs(config["trainer"]):
        end = {"max_epochs": -1, "max_steps": round(fmean(fold.best_step for fold in folds))}
    else:
        end = {"max_epochs": round(fmean(fold.best_epoch for fold in folds)), "max_steps": -1}
    trainer = {**config["trainer"], **end}
    return {**config, "trainer": trainer, "early_stopping": {**config["early_stopping"], "patience": None}}


class _FoldChannel:
    """The channel while a fold trains, or all of them: it forwards stop requests, but no reports of single epochs.

    What a logger receives by step is recorded as `fold-1/NAME` and so on, and `all-folds/NAME`.
    """

    def __init__(self, channel: Channel, count: int, number: int | None = None) -> None:
        self._channel = channel
        self._count = count
        self._number = number

    @property
    def name(self) -> str:
        """The name of the fold, and of its folder."""
        return "all-folds" if self._number is None else f"fold-{self._number + 1}"

    def started(self, about: Mapping[str, Any]) -> None:
        """Report what was built for the first fold, with the rows of all folds."""
        if self._number != 0:
            return
        sizes = about["sizes"]
        rows = {f"in {self._count} folds": sizes["train"] + sizes["val"], "test": sizes["test"]}
        self._channel.started({**about, "sizes": rows})

    def report(self, moment: Moment, metrics: Mapping[str, float]) -> None:
        """No-op: each fold is reported as a whole."""

    def log(self, log: Log) -> None:
        """Pass on what the trial's logger has received, metrics by the name of the fold."""
        points = [
            replace(point, metrics={f"{self.name}/{name}": value for name, value in point.metrics.items()})
            for point in log.points
        ]
        self._channel.log(replace(log, points=tuple(points)))

    def should_stop(self, *, in_epoch: bool) -> bool:
        """Return whether to stop early."""
        return self._channel.should_stop(in_epoch=in_epoch)
