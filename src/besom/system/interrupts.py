"""Signals as stop requests: ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Stop:
    """The user's request to stop, perhaps at once; `noticed` is set by the code that acts on it."""

    asked = False
    at_once = False
    noticed = False


@contextmanager
def interrupts() -> Iterator[Stop]:
    """Turn the first ctrl-C, SIGTERM or SIGHUP into a request to stop, the second into one to stop at once.

    Another one, or a second one before the first was noticed, ends the process. An ignored SIGHUP, as under nohup,
    stays ignored.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.at_once or (stop.asked and not stop.noticed):
            raise KeyboardInterrupt
        stop.asked, stop.at_once = True, stop.asked

    with _handled_by(handle, signal.SIGINT, *_ENDING):
        yield stop


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt, as ctrl-C does, where `interrupts` is not active.

    Thus waiting, such as for an unreachable server, ends, and open resources are closed.
    """
    with _handled_by(signal.default_int_handler, *_ENDING):
        yield


@contextmanager
def _handled_by(handle: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    ignored = [number for number in numbers if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers if number not in ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
