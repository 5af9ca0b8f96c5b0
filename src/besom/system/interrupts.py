"""Signals as a wish to stop: ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)


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

    with _handled_by(handle, signal.SIGINT, *_ENDING):
        yield stop


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt, as ctrl-C does, where nobody listens to `interrupts`.

    So what waits there, such as for a server that is away, ends, and what is open is closed.
    """
    with _handled_by(signal.default_int_handler, *_ENDING):
        yield


@contextmanager
def _handled_by(handle: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    heard = [one for one in numbers if one is not signal.SIGHUP or signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
