"""Helpers for a trial of a study and for a single run alike: its config in a slot, and its recorded run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from besom.config.objectives import Objective
from besom.config.tuning import with_tuned
from besom.config.units import EPOCH_METRIC, Unit
from besom.errors import StoreError
from besom.tracking.recorder.recorder import Recorder, RunCard
from besom.tracking.study_run import Status
from besom.tracking.tags import Tag
from besom.workers.devices import Slot
from besom.workers.messages import Failure, Reported, Started, State, TrialResult

WRITTEN_BY_SLOT = ("threads", "test", "trainer.accelerator", "trainer.devices", "trainer.strategy")
"""The keys that `for_slot` sets."""


def for_slot(config: DictConfig, slot: Slot, *, test: bool) -> DictConfig:
    """Return a copy of the config with the slot's devices and threads set, and whether to test."""
    config = config.copy()
    if OmegaConf.select(config, "threads") == "auto":
        config.threads = slot.threads
    if OmegaConf.select(config, "trainer.accelerator") is not None:
        config.trainer.accelerator = slot.device.kind
        with open_dict(config.trainer):
            config.trainer.devices = len(slot.devices)
            if len(slot.devices) > 1 and config.trainer.get("strategy") in (None, "auto"):
                config.trainer.strategy = "ddp"
    config.test = test
    return config


def family(config: Any) -> str:
    """Return the class name of the model, by which a leaderboard groups trials; hydra-zen wraps it."""
    model = config.get("model")  # in another app's config, it may be a plain name
    target = (model.get("_zen_target") or model.get("_target_")) if isinstance(model, Mapping | DictConfig) else None
    return str(target or "unknown").rpartition(".")[2]


def best_metrics(objectives: Sequence[Objective], result: TrialResult) -> dict[str, float]:
    """Return the metrics that are recorded once: `best/NAME` of each objective, and the result's summary."""
    values = zip(objectives, result.values, strict=True)
    return {**{objective.best_metric: value for objective, value in values}, **result.summary}


def not_a_value(objectives: Sequence[Objective], result: TrialResult, *, infinite: bool) -> str | None:
    """Return the first objective with a wrong value, and the value: NaN, and unless `infinite`, infinity; else None."""
    is_value = (lambda value: not math.isnan(value)) if infinite else math.isfinite
    values = zip(objectives, result.values, strict=True)
    return next((f"{objective.name} is {value}" for objective, value in values if not is_value(value)), None)


def record_start(recorder: Recorder, trial: int, card: RunCard, started: Started) -> RunCard:
    """Create the run of a trial that has started; return its card, with the start and the config of a worker.

    A value that the worker has tuned is in that config, so that the run is trained again with it.
    """
    about = dict(started.about)
    config = about.pop("config", card.config)  # the worker composes the job of another app
    if "tuned" in about:
        config = with_tuned(config, about["tuned"]["key"], about["tuned"]["value"])
    card = replace(card, began_s=started.began_s, config=config)
    recorder.start(trial, card, about, started.sources)
    return card


def record_report(recorder: Recorder, axis: Unit, reported: Reported) -> None:
    """Record the metrics of a report by the axis of its run; by steps, the epoch is a metric of its own.

    The epoch counts from 1. Another app has none.
    """
    metrics = reported.metrics
    if axis is Unit.STEP and reported.moment.epoch:
        metrics = {EPOCH_METRIC: float(reported.moment.epoch), **metrics}
    recorder.report(reported.trial, reported.at(axis), metrics, reported.time_s)


def record_end(recorder: Recorder, trial: int, result: TrialResult, objectives: Sequence[Objective] = ()) -> None:
    """End the run of a trial with its result."""
    complete, failure = result.state is State.COMPLETE, result.failure
    recorder.finish(
        trial,
        _STATUS[result.state],
        metrics=best_metrics(objectives, result) if complete else {},
        tags=_tags_of(result),
        traceback=(failure.traceback or failure.reason) if failure else None,
        ended_s=result.ended_s,
    )


_STATUS = {State.COMPLETE: Status.FINISHED, State.PRUNED: Status.KILLED, State.FAIL: Status.FAILED}


def _tags_of(result: TrialResult) -> dict[str, str]:
    tags = {Tag.STATE: str(result.state)}
    if result.best_epoch is not None:
        tags[Tag.BEST_EPOCH] = str(result.best_epoch)
    if result.best_step is not None:
        tags[Tag.BEST_STEP] = str(result.best_step)
    if result.constraints:
        tags[Tag.FEASIBLE] = str(result.feasible).lower()
        tags[Tag.CONSTRAINTS] = json.dumps(result.constraints)
    if result.reason is not None:
        tags[Tag.REASON] = result.reason
    return tags


def disk_is_full(which: str, failure: Failure) -> StoreError:
    """Return the error for a trial that met a full disk: it ends the sweep, since all others would meet it too."""
    return StoreError(f"{which}: {failure.reason}; the disk is full: make room on it, and run the same command again")
