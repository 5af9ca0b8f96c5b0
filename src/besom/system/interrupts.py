"""Signals as a wish to stop: ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
