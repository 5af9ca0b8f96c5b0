"""What any trial needs, in a study or alone: its slot written into its config, a name, and a way to be stopped."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from besom.workers.devices import Slot


def for_slot(config: DictConfig, slot: Slot, *, test: bool) -> DictConfig:
    """Return the config with what the slot decides written down: device kind, threads; and whether to test."""
    config = config.copy()
    if OmegaConf.select(config, "threads") == "auto":
        config.threads = slot.threads
    if OmegaConf.select(config, "trainer.accelerator") is not None:
        config.trainer.accelerator = slot.device.kind
    config.test = test
    return config


def family(config: Any) -> str:
    """The name of the model's class: what a leaderboard groups trials by."""
    target = (config.get("model") or {}).get("_target_") or "unknown"
    return str(target).rpartition(".")[2]


class Stop:
    """Whether the user asked to stop."""

    asked = False


@contextmanager
def interrupts() -> Iterator[Stop]:
    """Turn the first ctrl-C or SIGTERM into a wish to stop; the second one ends the process."""
    stop = Stop()
    counter = itertools.count()

    def handle(number: int, frame: FrameType | None) -> None:
        if next(counter):
            raise KeyboardInterrupt
        stop.asked = True

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
