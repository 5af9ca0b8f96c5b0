"""`besom.report`: report a job's metrics to the sweep, and stop the job when the sweep requests it.

The channel to the sweep is global in the process, since a worker runs one job at a time. A child process of a job
reports through its worker; of several ranks, only the first one reports. Without a channel, nothing is reported and
nothing stops.
"""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex

from besom.errors import TrialPruned
from besom.training.progress import Channel, Moment

if TYPE_CHECKING:
    from besom.hydra_app.relay import Relay

UNNAMED = "value"
"""The name of the objective if the app's config has none."""


class _Job:
    """The running job of this process, with its channel and its last step."""

    def __init__(self, channel: Channel, metric: str) -> None:
        self._channel = channel
        self._metric = metric
        self.was_stopped = False
        self._step: int | None = None
        self._begins: int | None = None  # the last step when a further count began
        self._offset = 0

    def report(self, value: SupportsFloat | Mapping[str, SupportsFloat], step: SupportsIndex) -> None:
        self._send(value if isinstance(value, Mapping) else {self._metric: value}, step)

    def count_anew(self) -> None:
        self._begins, self._offset = self._step, 0

    def follow(self, name: str, metrics: Mapping[str, SupportsFloat], step: int) -> None:
        if self._begins is not None:
            self._offset = self._begins if step <= self._begins else 0  # else a fit is continued
            self._begins = None
        unnamed = {UNNAMED: metrics[name]} if self._metric == UNNAMED else {}
        self._send({**metrics, **unnamed}, step + self._offset)

    def _send(self, metrics: Mapping[str, SupportsFloat], step: SupportsIndex) -> None:
        number = _integer(step)
        if self._step is not None and number < self._step:
            raise ValueError(f"besom.report: step {number} comes after step {self._step}; count upwards in a job")
        self._step = number
        self._channel.report(Moment(epoch=0, step=number), _numbers(metrics))
        self.stop_if_requested(in_epoch=False)

    def stop_if_requested(self, *, in_epoch: bool) -> None:
        if self._channel.should_stop(in_epoch=in_epoch):
            self.was_stopped = True
            raise TrialPruned


class _JobElsewhere:
    """The job whose worker has started this process; only rank 0 reports."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def report(self, value: SupportsFloat | Mapping[str, SupportsFloat], step: SupportsIndex) -> None:
        plain = _numbers(value) if isinstance(value, Mapping) else _number("the value", value)
        self._call("report", plain, _integer(step))

    def follow(self, name: str, metrics: Mapping[str, SupportsFloat], step: int) -> None:
        self._call("follow", name, _numbers(metrics), step)

    def count_anew(self) -> None:
        self._call("count_anew")

    def stop_if_requested(self, *, in_epoch: bool) -> None:
        self._call("stop_if_urgent" if in_epoch else "stop")

    def _call(self, name: str, *arguments: object) -> None:
        if _rank() == 0:
            self._relay.call(name, *arguments)


_job: _Job | None = None
_process = 0
"""The process of the job: a forked one has it, but cannot use its channel."""


def _current() -> _Job | _JobElsewhere | None:
    return _job if is_here() else _elsewhere(os.getpid())


@cache
def _elsewhere(_: int) -> _JobElsewhere | None:
    from besom.hydra_app.relay import Relay  # only a child process needs it

    relay = Relay.to_worker()
    return None if relay is None else _JobElsewhere(relay)


def report(value: SupportsFloat | Mapping[str, SupportsFloat], *, step: SupportsIndex) -> None:
    """Report a value after a step to the sweep, or several metrics by name; do nothing outside a sweep.

    A value without a name is that of the objective. `step` is any counter of the app, such as epochs, from 0 or 1.
    Raises TrialPruned when the sweep stops the job: do not catch it. Raises ValueError for a step that is negative, not
    an integer, or before the last one, and for a value that is not a number.
    """
    if (job := _current()) is not None:
        job.report(value, step)


def follow(name: str, metrics: Mapping[str, SupportsFloat], *, step: int) -> None:
    """Report metrics as `report` does, one of them, by its name, also as the objective if that has no name."""
    if (job := _current()) is not None:
        job.follow(name, metrics, step)


def count_anew() -> None:
    """Let the steps that `follow` reports from now on count from the last one on, where they begin again."""
    if (job := _current()) is not None:
        job.count_anew()


def stop_if_urgent() -> None:
    """Raise TrialPruned if the sweep requests a stop before the next step; do nothing outside a sweep."""
    if (job := _current()) is not None:
        job.stop_if_requested(in_epoch=True)


def is_heard() -> bool:
    """Return whether this process, or the one that started it, has a channel to a sweep."""
    return _current() is not None


def is_here() -> bool:
    """Return whether this process itself runs a job."""
    return _job is not None and _process == os.getpid()


def answer(name: str, arguments: Sequence[Any]) -> None:
    """Do for a child process of the job what it cannot do itself. Raises as `report` does."""
    job = _job
    if job is None:  # it is over
        raise TrialPruned
    calls: Mapping[str, Callable[..., None]] = {
        "report": job.report,
        "follow": job.follow,
        "count_anew": job.count_anew,
        "stop": partial(job.stop_if_requested, in_epoch=False),
        "stop_if_urgent": partial(job.stop_if_requested, in_epoch=True),
    }
    calls[name](*arguments)


@contextmanager
def reporting(channel: Channel, *, metric: str) -> Iterator[_Job]:
    """Let `report` use this channel within a `with` block; `metric` is the name of a value without one.

    The job knows whether it `was_stopped`.
    """
    global _job, _process
    _job, _process = _Job(channel, metric), os.getpid()
    try:
        yield _job
    finally:
        _job = None


def _integer(step: SupportsIndex) -> int:
    try:
        if isinstance(step, bool):
            raise TypeError
        number = operator.index(step)
        if number < 0:
            raise TypeError
    except TypeError:
        raise ValueError(f"besom.report: step is {step!r}; give a whole number from 0, such as the epoch") from None
    return number


def _numbers(metrics: Mapping[str, SupportsFloat]) -> dict[str, float]:
    return {str(name): _number(name, value) for name, value in metrics.items()}


def _number(name: object, value: SupportsFloat) -> float:
    try:
        return as_number(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"besom.report: {name} is {value!r}; give a number") from None


def as_number(value: Any) -> float:
    """Return a number, or the only element of an array or a tensor, as a float.

    Raises TypeError, ValueError or RuntimeError for anything else.
    """
    if value is None or isinstance(value, str | bytes):
        raise TypeError
    return float(value.item() if getattr(value, "shape", ()) else value)  # NumPy's arrays have no float(…) any more


def _rank() -> int:
    """Return the rank of this process among those that train together."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    return int(os.environ.get("LOCAL_RANK", "0"))
