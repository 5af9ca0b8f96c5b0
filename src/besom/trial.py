"""What any trial needs, in a study or alone: its slot written into its config, a name, and a way to be stopped."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from besom.conversation import Outcome
from besom.errors import StoreError
from besom.objectives import Objective
from besom.workers.devices import Slot
from besom.workers.messages import Failure, State

WRITTEN_BY_SLOT = ("threads", "test", "trainer.accelerator", "trainer.devices", "trainer.strategy")
"""The keys that `for_slot` sets."""


def for_slot(config: DictConfig, slot: Slot, *, test: bool) -> DictConfig:
    """Return the config with what the slot decides written down: its devices, threads; and whether to test."""
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
    """The name of the model's class: what a leaderboard groups trials by."""
    model = config.get("model")  # another app's may be a plain name
    target = model.get("_target_") if isinstance(model, Mapping | DictConfig) else None
    return str(target or "unknown").rpartition(".")[2]


def best_metrics(objectives: Sequence[Objective], outcome: Outcome) -> dict[str, float]:
    """The metrics that are recorded once: `best/` and each objective's name, and the outcome's summary."""
    values = zip(objectives, outcome.values, strict=True)
    return {**{f"best/{objective.name}": value for objective, value in values}, **outcome.summary}


def not_finite(objectives: Sequence[Objective], outcome: Outcome) -> str | None:
    """The first objective whose value is no number, and that value; None where all of them can be compared."""
    values = zip(objectives, outcome.values, strict=True)
    return next((f"{one.name} is {value}" for one, value in values if not math.isfinite(value)), None)


def tags_of(state: State, outcome: Outcome) -> dict[str, str]:
    """The tags of a run that ended with an outcome."""
    epoch = {} if outcome.best_epoch is None else {"besom.best_epoch": str(outcome.best_epoch)}
    return {"besom.state": state, **epoch}


def disk_is_full(which: str, failure: Failure) -> StoreError:
    """What to raise for a trial that met a full disk: it is none of its faults, and each that came would meet it."""
    return StoreError(f"{which}: {failure.reason}; the disk is full: make room on it, and run the same command again")


class Stop:
    """Whether the user asked to stop, and whether at once; `noticed` is set by who acts on it."""

    asked = False
    at_once = False
    noticed = False


@contextmanager
def interrupts() -> Iterator[Stop]:
    """Turn the first ctrl-C, SIGTERM or SIGHUP into a wish to stop, the second one into a wish to stop at once.

    One more, or a second one while the first was not yet noticed, ends the process. A SIGHUP that is ignored, as under
    nohup, stays so.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.at_once or (stop.asked and not stop.noticed):
            raise KeyboardInterrupt
        stop.asked, stop.at_once = True, stop.asked

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
